--[[
Keep a schedule. One that stands there already stays as it is; another of that name takes its place and its counts, and
a pause stays.

KEYS[1]  schedule    schedule hash
KEYS[2]  schedules   names by next firing

ARGV[1]  name        its name
ARGV[2]  definition  JSON
ARGV[3]  next_ms     its next firing

Returns {its next firing}.
]]
local hash = KEYS[1]
if redis.call('HGET', hash, 'definition') ~= ARGV[2] then
  redis.call('HSET', hash, 'definition', ARGV[2], 'slot', ARGV[3])
  redis.call('ZADD', KEYS[2], redis.call('HEXISTS', hash, 'paused') == 1 and '+inf' or ARGV[3], ARGV[1])
end
return {redis.call('HGET', hash, 'slot')}
