--[[
Let an agent, a queue or everything go on that was paused. Sweeps wake the runs that were parked for that.

KEYS[1]  paused     scope → who paused it, when and why
KEYS[2]  parked     runs that were kept from going on by it

ARGV[1]  scope      all, agent:NAME or queue:NAME

Returns 0.
]]
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], '')
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
