--[[
Take messages of a webhook that are due, for one attempt each: nobody else takes them until the lock has run out.

Message ids are discovered here, so keys of messages and runs are built from the prefix.

KEYS[1]  due      message ids of the webhook by next attempt
KEYS[2]  taken    what its holder has taken last

ARGV[1]  prefix   key prefix
ARGV[2]  name     of the webhook
ARGV[3]  token    of this call; the same again answers with the same messages
ARGV[4]  limit    how many at most
ARGV[5]  lock_ms  how long they are the caller's

Returns {{id, end of the lock, message hash, event of the run or empty, metadata of the run or empty}}.
]]
-- @include clock

local prefix, name, token = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local function key_of(id)
  return prefix .. ':webhooks:message:' .. name .. ':' .. id
end

-- The last event of a run when it ended. What waits says itself what it asks.
local function event_of(run, message)
  if message[2] == 'run.waiting' then
    return ''
  end
  local entry = redis.call('XRANGE', run .. ':events', message[3] .. '-0', message[3] .. '-0')[1]
  return entry and entry[2][2] or ''
end

local ids = {}
local before, again = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (.*)$')
if before == token then
  for id in string.gmatch(again, '%S+') do
    ids[#ids + 1] = id
  end
else
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[4])) do
    if redis.call('EXISTS', key_of(id)) == 0 then
      redis.call('ZREM', KEYS[1], id)
    else
      redis.call('HINCRBY', key_of(id), 'attempts', 1)
      redis.call('HSET', key_of(id), 'token', token)
      redis.call('ZADD', KEYS[1], int(now + tonumber(ARGV[5])), id)
      ids[#ids + 1] = id
    end
  end
  if #ids > 0 then
    redis.call('SET', KEYS[2], token .. ' ' .. table.concat(ids, ' '), 'PX', ARGV[5])
  end
end
local found = {}
for _, id in ipairs(ids) do
  local message = redis.call('HMGET', key_of(id), 'run', 'type', 'seq', 'token')
  if message[4] == token then
    local run = prefix .. ':{' .. message[1] .. '}'
    found[#found + 1] = {
      id, redis.call('ZSCORE', KEYS[1], id) or int(now), redis.call('HGETALL', key_of(id)), event_of(run, message),
      redis.call('HGET', run, 'metadata') or '',
    }
  end
end
return found
