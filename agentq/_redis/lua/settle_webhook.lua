--[[
Say what became of an attempt: the message was delivered, and goes; or it was not, and is tried again or given up.

That it was delivered counts in any case, whoever has it by now.

KEYS[1]  message     message hash
KEYS[2]  due         message ids of the webhook by next attempt
KEYS[3]  dead        message ids that were given up, by when
KEYS[4]  counts      how many of its messages came through, and what failed last

ARGV[1]  message_id  its id
ARGV[2]  token       of the call that took it; the same again changes nothing
ARGV[3]  outcome     `delivered`, `failed` or `dead`
ARGV[4]  delay_ms    after how long it is tried again
ARGV[5]  error       what went wrong
ARGV[6]  counts_ms   time to live of the counts

Returns {settled}: 1, or 0 where somebody else has it, or it is gone.
]]
-- @include clock
-- @include webhooks

local now, id, outcome = now_ms(), ARGV[1], ARGV[3]
if outcome == 'delivered' then
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if redis.call('DEL', KEYS[1]) == 1 then
    redis.call('HINCRBY', KEYS[4], 'delivered', 1)
    redis.call('HSET', KEYS[4], 'delivered_at', int(now))
    redis.call('PEXPIRE', KEYS[4], ARGV[6])
  end
  return {1}
end
local of = redis.call('HMGET', KEYS[1], 'token', 'settled')
if of[1] ~= ARGV[2] then
  return {0}
end
if of[2] == ARGV[2] then
  return {1}
end
redis.call('HSET', KEYS[1], 'settled', ARGV[2], 'error', ARGV[5])
redis.call('HSET', KEYS[4], 'failed_at', int(now), 'error', ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[6])
if outcome == 'dead' then
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', int(now - WEBHOOK_MS))
  redis.call('ZADD', KEYS[3], int(now), id)
  redis.call('PEXPIRE', KEYS[3], WEBHOOK_MS)
  redis.call('PEXPIRE', KEYS[1], WEBHOOK_MS)
else
  redis.call('ZADD', KEYS[2], int(now + tonumber(ARGV[4])), id)
end
return {1}
