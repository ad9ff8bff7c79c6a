--[[ The guard of every fenced write, and what makes a repeated batch harmless. ]]
local function refused(state, fence)
  if not state.status then
    return -1
  end
  if not holds(state, fence) then
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
