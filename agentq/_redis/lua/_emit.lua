--[[
Events: number them, append them to the run's stream, publish them as one message.

An item is one letter and its JSON: `d` a delta, `f` a delta that an event of the same batch already stands for, `e` any
other event. The stream entry `<seq>-0` holds the JSON in the field of that letter, and the time in `t`; `f` is numbered
and published but not stored. The message is "<first> <time>" and then a line for each item.
The run's field `open` is the number of the first delta whose reply is not complete.
]]
local function emit(run, events, items, now)
  local count = #items
  if count == 0 then
    return tonumber(redis.call('HGET', run, 'seq') or '0')
  end
  local last = redis.call('HINCRBY', run, 'seq', count)
  local at = int(now)
  for i = 1, count do
    local kind = string.sub(items[i], 1, 1)
    local seq = last - count + i
    if kind ~= 'f' then
      redis.call('XADD', events, int(seq) .. '-0', kind, string.sub(items[i], 2), 't', at)
    end
    if kind == 'd' then
      redis.call('HSETNX', run, 'open', seq)
    end
  end
  redis.call('PUBLISH', run .. ':live', int(last - count + 1) .. ' ' .. at .. '\n' .. table.concat(items, '\n'))
  return last
end

-- Deletes the deltas that a batch replaces; `ranges` are "first-last".
local function fold(run, events, ranges)
  if #ranges == 0 then
    return
  end
  local ids = {}
  for _, range in ipairs(ranges) do
    local first, last = string.match(range, '^(%d+)-(%d+)$')
    for seq = tonumber(first), tonumber(last) do
      ids[#ids + 1] = int(seq) .. '-0'
    end
  end
  call_many('XDEL', events, ids)
  redis.call('HDEL', run, 'open')
end

-- How a delta of reasoning begins, as workers write it.
local REASONING = '{"type":"reasoning.delta"'

-- Drops the deltas of a reply that was given up and says so; returns whether there were any.
local function reset(run, events, reason, now)
  local open = redis.call('HGET', run, 'open')
  if not open then
    return false
  end
  local ids, kept, thoughts, before = {}, {}, {}, 0
  for _, entry in ipairs(redis.call('XRANGE', events, open .. '-0', '+')) do
    local seq = string.match(entry[1], '^%d+')
    if entry[2][1] == 'd' then
      ids[#ids + 1] = entry[1]
      if string.sub(entry[2][2], 1, #REASONING) == REASONING then
        if tonumber(seq) == before + 1 then
          thoughts[#thoughts] = string.gsub(thoughts[#thoughts], '%d+%]$', seq .. ']')
        else
          thoughts[#thoughts + 1] = '[' .. seq .. ',' .. seq .. ']'
        end
        before = tonumber(seq)
      end
    else
      kept[#kept + 1] = seq
    end
  end
  call_many('XDEL', events, ids)
  redis.call('HDEL', run, 'open')
  local last = redis.call('HGET', run, 'seq')
  emit(run, events, {
    'e{"type":"attempt.reset","first":' .. open .. ',"last":' .. last .. ',"kept":[' .. table.concat(kept, ',')
      .. '],"reasoning":[' .. table.concat(thoughts, ',') .. '],"reason":"' .. reason .. '"}',
  }, now)
  return true
end
