--[[
Make a run of an archive, whose parts are staged, a run of this Redis that has ended, all at once.

A run that is there already is left as it is. Builds listing keys, and keys of the session and of values, from the prefix.

KEYS[1]  run               run hash
KEYS[2]  messages          transcript
KEYS[3]  events            event stream
KEYS[4]  files             files of the run
KEYS[5]  key               idempotency key, holds the run id; empty when there is none
KEYS[6]  staged_messages   the same three, staged
KEYS[7]  staged_events     staged event stream
KEYS[8]  staged_files      staged files

ARGV[1]  prefix      key prefix
ARGV[2]  run_id      run id
ARGV[3]  ttl_ms      time to live
ARGV[4]  counts      messages, events and files that must be staged: "2 7 0"
ARGV[5]  token       of this import; the same again answers as before
ARGV[6]  fields*     names and values of the run hash
ARGV[7]  values*     names and values that its tools have kept

Returns {restored}: 1, 0 when it is there already, 2 when what was staged is gone; or
  -1  IdempotencyConflict   the key belongs to another run
  -2  SessionConflict       the session belongs to another user
]]
-- @include clock
-- @include lists
-- @include places
-- @include status
-- @include session
-- @include finish

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local fields, values = lists(6, 2)
local given = {}
for i = 1, #fields, 2 do
  given[fields[i]] = fields[i + 1]
end
if redis.call('EXISTS', run) == 1 then
  return {redis.call('HGET', run, 'restored') == ARGV[5] and 1 or 0}
end
local holder = KEYS[5] ~= '' and redis.call('GET', KEYS[5])
if holder and holder ~= run_id and redis.call('EXISTS', prefix .. ':{' .. holder .. '}') == 1 then
  return -1
end
local session, user = given.session, given.user
local owner = session and redis.call('HGET', session_key(prefix, session), 'user')
if owner and user and owner ~= user then
  return -2
end
local counts = redis.call('LLEN', KEYS[6]) .. ' ' .. redis.call('XLEN', KEYS[7]) .. ' ' .. redis.call('HLEN', KEYS[8])
if counts ~= ARGV[4] then
  return {2}
end

-- What a run that was deleted by hand may have left.
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], run .. ':journal', run .. ':values')
for i = 6, 8 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RENAME', KEYS[i], KEYS[i - 4])
  end
end
call_many('HSET', run .. ':values', values)
redis.call('HSET', run, 'restored', ARGV[5], unpack(fields))
if KEYS[5] ~= '' then
  redis.call('SET', KEYS[5], run_id)
end
redis.call('ZADD', prefix .. ':runs', 0, run_id)
redis.call('ZADD', prefix .. ':runs:status:' .. given.status, 0, run_id)
redis.call('ZADD', prefix .. ':runs:agent:' .. given.agent, 0, run_id)
if user then
  redis.call('ZADD', prefix .. ':runs:user:' .. user, 0, run_id)
end
if session then
  redis.call('ZADD', prefix .. ':runs:session:' .. session, 0, run_id)
end
expire(prefix, run, run_id, now_ms(), tonumber(ARGV[3]))
return {1}
