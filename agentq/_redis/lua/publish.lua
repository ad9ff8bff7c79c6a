--[[
Say which agents a worker serves, and forget those that nobody has served for long.

KEYS[1]  agents      hash: name → manifest, JSON, with the time of its publication in `published_ms`

ARGV[1]  ttl_ms      time to live of the hash
ARGV[2]  since       manifests that were published before then go
ARGV[3]  manifests*  names and manifests

Returns {how many went}.
]]
-- @include lists

local manifests = lists(3, 1)
call_many('HSET', KEYS[1], manifests)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local known, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #known, 2 do
  local published = string.match(known[i + 1], '"published_ms":(%d+)}$')
  if not published or tonumber(published) < tonumber(ARGV[2]) then
    gone = gone + redis.call('HDEL', KEYS[1], known[i])
  end
end
return {gone}
