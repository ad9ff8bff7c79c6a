--[[
Read messages of a webhook that were not delivered: by id, or those of a state, the next to be tried first. Writes nothing.

Message ids are discovered here, so keys of messages are built from the prefix.

KEYS[1]  due     message ids of the webhook by next attempt
KEYS[2]  dead    message ids that were given up, by when

ARGV[1]  prefix  key prefix
ARGV[2]  name    of the webhook
ARGV[3]  which   `pending`, `failed`, `dead`, `all`, or `=` and an id
ARGV[4]  limit   how many at most

Returns {{id, next attempt or empty, message hash}}.
]]
-- So many are looked at, that no script takes long.
local LOOKS = 10000

local which, limit, found = ARGV[3], tonumber(ARGV[4]), {}
local wanted = string.match(which, '^=(.*)$')

local function add(id, at)
  local message = ARGV[1] .. ':webhooks:message:' .. ARGV[2] .. ':' .. id
  local attempts = tonumber(redis.call('HGET', message, 'attempts') or '0')
  if which == 'pending' and attempts > 0 or which == 'failed' and attempts == 0 then
    return
  end
  if redis.call('HEXISTS', message, 'run') == 1 then
    found[#found + 1] = {id, at, redis.call('HGETALL', message)}
  end
end

if wanted then
  local at = redis.call('ZSCORE', KEYS[1], wanted)
  if at or redis.call('ZSCORE', KEYS[2], wanted) then
    add(wanted, at or '')
  end
  return found
end
local first = 0
while which ~= 'dead' and #found < limit and first < LOOKS do
  local ids = redis.call('ZRANGE', KEYS[1], first, first + limit - 1, 'WITHSCORES')
  for i = 1, #ids, 2 do
    if #found < limit then
      add(ids[i], ids[i + 1])
    end
  end
  if #ids < 2 * limit then
    break
  end
  first = first + limit
end
if which == 'dead' or which == 'all' then
  for _, id in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, limit - 1)) do
    if #found < limit then
      add(id, '')
    end
  end
end
return found
