--[[
Try messages of a webhook again at once, with all attempts anew. Those that somebody is about to deliver are left alone.

Keys of messages are built from the prefix.

KEYS[1]  due           message ids of the webhook by next attempt
KEYS[2]  dead          message ids that were given up, by when

ARGV[1]  prefix        key prefix
ARGV[2]  name          of the webhook
ARGV[3]  token         of this call; the same again changes nothing
ARGV[4]  message_ids*  which

Returns {how many}.
]]
-- @include clock
-- @include lists
-- @include webhooks

local now, count = now_ms(), 0
local ids = lists(4, 1)
for _, id in ipairs(ids) do
  local message = ARGV[1] .. ':webhooks:message:' .. ARGV[2] .. ':' .. id
  local of = redis.call('HMGET', message, 'run', 'token', 'settled', 'retried')
  local is_held = of[2] and of[2] ~= of[3] and tonumber(redis.call('ZSCORE', KEYS[1], id) or 0) > now
  if of[4] == ARGV[3] then
    count = count + 1
  elseif of[1] and not is_held then
    redis.call('HSET', message, 'attempts', '0', 'retried', ARGV[3])
    redis.call('PEXPIRE', message, WEBHOOK_MS)
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[1], int(now), id)
    redis.call('PEXPIRE', KEYS[1], WEBHOOK_MS)
    count = count + 1
  end
end
return {count}
