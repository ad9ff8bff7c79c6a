--[[
Read schedules: one by its name, those that are due, or all by name. Writes nothing.

Names are discovered here, so keys of schedules are built from the prefix.

KEYS[1]  schedules   names by next firing

ARGV[1]  prefix      key prefix
ARGV[2]  which       `due`, `all`, or `=` and a name
ARGV[3]  limit       how many at most

Returns {time, {schedule hashes}}.
]]
-- @include clock

local now, which = now_ms(), ARGV[2]
local names
if which == 'due' then
  names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[3])
elseif which == 'all' then
  names = redis.call('ZRANGE', KEYS[1], 0, ARGV[3] - 1)
else
  names = {string.sub(which, 2)}
end
local found = {}
for _, name in ipairs(names) do
  found[#found + 1] = redis.call('HGETALL', ARGV[1] .. ':schedule:' .. name)
end
return {now, found}
