--[[
Note which server this Redis is: it is another one after a restart or a failover, and may have lost its last writes.

KEYS[1]  epoch      what is known of the servers and of losses

ARGV[1]  server     run id of the server, as INFO says
ARGV[2]  ttl_ms     how long that is remembered

Returns {number of this epoch, since when, whether it has just begun}.
]]
-- @include clock

local known = redis.call('HGET', KEYS[1], 'server')
local begins = known ~= ARGV[1]
if begins then
  redis.call('HSET', KEYS[1], 'server', ARGV[1], 'since', int(now_ms()))
  redis.call('HINCRBY', KEYS[1], 'number', 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local epoch = redis.call('HMGET', KEYS[1], 'number', 'since')
return {tonumber(epoch[1]), tonumber(epoch[2]), begins and 1 or 0}
