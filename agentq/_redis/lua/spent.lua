--[[
What runs have used together. Changes nothing.

Keys are built from the prefix and the names.

ARGV[1]  prefix    key prefix
ARGV[2]  meters*   of each its name, the length of its window (0 for none), and the number of the window or empty for now's

Returns for each {tokens, nanodollars, iterations, milliseconds that are left of the window}; the first three may be nil.
]]
-- @include clock
-- @include lists
-- @include spend

local meters = lists(2, 1)
local now = now_ms()
local answers = {}
for i = 1, #meters, 3 do
  local window, at = tonumber(meters[i + 1]), tonumber(meters[i + 2])
  local spent = redis.call('HMGET', meter_key(ARGV[1], meters[i], window, at, now), 'tokens', 'cost', 'iterations')
  local ends = window > 0 and ((at or math.floor(now / window)) + 1) * window or 0
  spent[4] = math.max(ends - now, 0)
  answers[#answers + 1] = spent
end
return answers
