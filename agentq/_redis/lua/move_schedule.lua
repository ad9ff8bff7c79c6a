--[[
Move a schedule on without a run, pause it, or let it go on.

KEYS[1]  schedule    schedule hash
KEYS[2]  schedules   names by next firing

ARGV[1]  name        its name
ARGV[2]  seen_ms     the firing that the caller has seen; where it is another, nothing happens. Empty for any
ARGV[3]  next_ms     its next firing; empty to leave it
ARGV[4]  paused      1 to pause it, 0 to let it go on, empty to leave that as it is
ARGV[5]  skipped     how many firings are left out by this

Returns {1 where the schedule stands so now}, or
  -1  ScheduleNotFound  there is no such schedule
]]
local hash = KEYS[1]
local slot = redis.call('HGET', hash, 'slot')
if not slot then
  return -1
end
if ARGV[2] ~= '' and ARGV[2] ~= slot then
  return {slot == ARGV[3] and 1 or 0}
end
if ARGV[4] == '1' then
  redis.call('HSET', hash, 'paused', '1')
elseif ARGV[4] == '0' then
  redis.call('HDEL', hash, 'paused')
end
if ARGV[3] ~= '' then
  redis.call('HSET', hash, 'slot', ARGV[3])
  slot = ARGV[3]
end
if ARGV[5] ~= '0' then
  redis.call('HINCRBY', hash, 'skipped', ARGV[5])
end
redis.call('ZADD', KEYS[2], redis.call('HEXISTS', hash, 'paused') == 1 and '+inf' or slot, ARGV[1])
return {1}
