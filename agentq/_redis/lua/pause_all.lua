--[[
Pause an agent, a queue or everything: what is under way goes on to the end of its iteration, and nobody claims more of it.

KEYS[1]  paused     scope → who paused it, when and why

ARGV[1]  scope      all, agent:NAME or queue:NAME
ARGV[2]  reason     words for people, may be empty
ARGV[3]  by         who does it, may be empty

Returns {the pause as it stands, JSON}: that of the first, if it is paused already.
]]
-- @include clock

local stands = redis.call('HGET', KEYS[1], ARGV[1])
if not stands or stands == '' then
  stands = cjson.encode({reason = ARGV[2], by = ARGV[3], at_ms = int(now_ms())})
  redis.call('HSET', KEYS[1], ARGV[1], stands)
end
return {stands}
