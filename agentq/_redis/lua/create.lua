--[[
Store a queued run with its transcript and first event, and wake it.

A run that is there already, or an idempotency key that is known, stores nothing. Builds listing keys from the prefix.

KEYS[1]  run          run hash
KEYS[2]  messages     transcript
KEYS[3]  events       event stream
KEYS[4]  key          idempotency key, holds the run id; empty when there is none

ARGV[1]  prefix       key prefix
ARGV[2]  run_id       run id
ARGV[3]  hash         digest of the request
ARGV[4]  delay_ms     how long the first iteration is put off
ARGV[5]  wakeup       template of the wake-up, or empty
ARGV[6]  fields*      names and values of the run hash
ARGV[7]  contents*    messages, JSON
ARGV[8]  items*       events

Returns {run id, existed, woken}, or
  -1  IdempotencyConflict   the key was used with other input
]]
-- @include clock
-- @include lists
-- @include emit
-- @include status
-- @include wake

local run, run_id, prefix = KEYS[1], ARGV[2], ARGV[1]
local now = now_ms()
local fields, contents, items = lists(6, 3)

local earlier = KEYS[4] ~= '' and redis.call('GET', KEYS[4]) or run_id
local hash = redis.call('HGET', prefix .. ':{' .. earlier .. '}', 'request_hash')
if hash then
  if hash ~= ARGV[3] then
    return -1
  end
  return {earlier, 1, ARGV[5] ~= '' and 1 or 0}
end

redis.call('HSET', run, 'request_hash', ARGV[3], 'created', int(now), 'updated', int(now), 'fence', '0', unpack(fields))
call_many('RPUSH', KEYS[2], contents)
if KEYS[4] ~= '' then
  redis.call('SET', KEYS[4], run_id)
end
emit(run, KEYS[3], items, now)
set_status(prefix, run, run_id, nil, 'queued')
local of = redis.call('HMGET', run, 'agent', 'queue', 'session', 'user')
redis.call('ZADD', prefix .. ':runs', 0, run_id)
redis.call('ZADD', prefix .. ':runs:agent:' .. of[1], 0, run_id)
if of[3] then
  redis.call('ZADD', prefix .. ':runs:session:' .. of[3], 0, run_id)
end
if of[4] then
  redis.call('ZADD', prefix .. ':runs:user:' .. of[4], 0, run_id)
end
return {run_id, 0, schedule(prefix, ARGV[5], run, run_id, of[2], now, tonumber(ARGV[4]))}
