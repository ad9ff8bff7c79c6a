--[[
Say which agents a worker serves, and forget those that nobody has served for long, by Redis's clock.

KEYS[1]  agents      hash: name → manifest, JSON, at its end the time of its publication, `published_ms`

ARGV[1]  ttl_ms      how long a manifest counts, and time to live of the hash
ARGV[2]  manifests*  names and manifests, JSON objects that are not empty

Returns {how many went}.
]]
-- @include clock
-- @include lists

local manifests = lists(2, 1)
local now = now_ms()
for i = 2, #manifests, 2 do
  manifests[i] = string.sub(manifests[i], 1, -2) .. ',"published_ms":' .. int(now) .. '}'
end
call_many('HSET', KEYS[1], manifests)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local known, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #known, 2 do
  local published = string.match(known[i + 1], '"published_ms":(%d+)}$')
  if not published or tonumber(published) < now - tonumber(ARGV[1]) then
    gone = gone + redis.call('HDEL', KEYS[1], known[i])
  end
end
return {gone}
