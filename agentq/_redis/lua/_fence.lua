--[[ The guard of every fenced write, and what makes a repeated batch harmless. ]]
local function refused(state, fence, owner)
  if not state.status then
    return -1
  end
  if number(state.fence) < number(fence) then
    -- It was given out once, so it was there.
    return -9
  end
  if not holds(state, fence, owner) then
    return -2
  end
  return nil
end

-- Batches of a claim are numbered, one in flight: the last one is remembered with its answer. An older number is a copy
-- of a command that was stuck on its way.
local function already(state, fence, batch)
  local of, number, seq, at = string.match(state.batch or '', '^(%d+):(%d+) (%d+) (%d+)$')
  if of == fence and tonumber(number) >= tonumber(batch) then
    return {tonumber(seq), tonumber(at)}
  end
  return nil
end

-- Whether the batch before this one is gone, although it was acknowledged.
local function has_gap(state, fence, batch)
  local of, number = string.match(state.batch or '', '^(%d+):(%d+) ')
  return tonumber(batch) > 1 and (of ~= fence or tonumber(number) < tonumber(batch) - 1)
end
