--[[ List arguments: ARGV[first] … hold lengths, the items of all lists follow after the last length. ]]
local function lists(first, count)
  local taken, at = {}, first + count
  for n = 1, count do
    local list = {}
    for i = 1, tonumber(ARGV[first + n - 1]) do
      list[i] = ARGV[at]
      at = at + 1
    end
    taken[n] = list
  end
  return unpack(taken)
end

-- Calls a command with many items, in pieces that fit Lua's stack.
local function call_many(command, key, items)
  for i = 1, #items, 1000 do
    redis.call(command, key, unpack(items, i, math.min(i + 999, #items)))
  end
end
