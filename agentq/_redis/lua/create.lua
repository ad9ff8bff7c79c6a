--[[
Store a queued run with its transcript, files and first event, and wake it, unless an earlier run of its session is live.

A run that is there already, or an idempotency key that is known, stores nothing, nor does the firing of a schedule that has
moved on. Builds listing keys and keys of the session, the parent and the schedule from the prefix.

KEYS[1]  run          run hash
KEYS[2]  messages     transcript
KEYS[3]  events       event stream
KEYS[4]  key          idempotency key, holds the run id; empty when there is none
KEYS[5]  files        files of the run, or of its session: digest → content

ARGV[1]  prefix       key prefix
ARGV[2]  run_id       run id
ARGV[3]  hash         digest of the request
ARGV[4]  delay_ms     how long the first iteration is put off
ARGV[5]  at_ms        when it may start at the earliest, or 0
ARGV[6]  wakeup       template of the wake-up, or empty
ARGV[7]  when_busy    what it does where its session is busy: queue, reject, interrupt or replace
ARGV[8]  fields*      names and values of the run hash
ARGV[9]  contents*    messages, JSON
ARGV[10]  items*      events
ARGV[11]  blobs*      digests and contents of files
ARGV[12]  firing*     see _firing.lua; empty for a run that no schedule makes

Returns {run id, existed, woken, ids of runs that were asked to stop and that nobody holds}, or
  -1  IdempotencyConflict   the key was used with other input
  -2  SessionConflict       the session belongs to another user
  -3  CancelRequested       the run that starts this one was cancelled, or has ended
  -4  RunNotFound           the run that starts this one had it before, and its time has passed
  -5  SessionBusy           a run of the session has not ended
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include push
-- @include tenants
-- @include wake
-- @include lease
-- @include cancel
-- @include session
-- @include busy
-- @include firing

local run, run_id, prefix = KEYS[1], ARGV[2], ARGV[1]
local now = now_ms()
local fields, contents, items, blobs, firing = lists(8, 5)

local earlier = KEYS[4] ~= '' and redis.call('GET', KEYS[4]) or run_id
local hash = redis.call('HGET', prefix .. ':{' .. earlier .. '}', 'request_hash')
if hash then
  if hash ~= ARGV[3] then
    return -1
  end
  return {earlier, 1, ARGV[6] ~= '' and 1 or 0, {}}
end

local given = {}
for i = 1, #fields, 2 do
  given[fields[i]] = fields[i + 1]
end
local session, user = given.session, given.user
if session then
  local owner = redis.call('HGET', session_key(prefix, session), 'user')
  if owner and user and owner ~= user then
    return -2
  end
  user = user or owner or nil
  if ARGV[7] == 'reject' and is_busy(prefix, session_key(prefix, session)) then
    return -5
  end
end

local parent = given.parent and prefix .. ':{' .. given.parent .. '}'
if parent then
  local above = redis.call('HMGET', parent, 'status', 'cancel')
  if not above[1] or FINAL[above[1]] or above[2] then
    return -3
  end
  for _, child_id in ipairs(redis.call('LRANGE', parent .. ':children', 0, -1)) do
    if child_id == run_id then
      return -4
    end
  end
  redis.call('RPUSH', parent .. ':children', run_id)
end

if #firing > 0 and not fires(prefix, firing, run_id) then
  return {run_id, 1, 1, {}}
end
redis.call('HSET', run, 'request_hash', ARGV[3], 'created', int(now), 'updated', int(now), 'fence', '0', unpack(fields))
call_many('RPUSH', KEYS[2], contents)
for i = 1, #blobs, 2 do
  redis.call('HSETNX', KEYS[5], blobs[i], blobs[i + 1])
end
if KEYS[4] ~= '' then
  redis.call('SET', KEYS[4], run_id)
end
emit(run, KEYS[3], items, now)
set_status(prefix, run, run_id, nil, 'queued')
redis.call('ZADD', prefix .. ':runs', 0, run_id)
redis.call('ZADD', prefix .. ':runs:agent:' .. given.agent, 0, run_id)
if user then
  redis.call('HSET', run, 'user', user)
  redis.call('ZADD', prefix .. ':runs:user:' .. user, 0, run_id)
end
local starts, delay, stopped = run_id, math.max(tonumber(ARGV[4]), tonumber(ARGV[5]) - now), {}
if session then
  redis.call('ZADD', prefix .. ':runs:session:' .. session, 0, run_id)
  join_session(prefix, session, user, now)
  if ARGV[7] == 'interrupt' or ARGV[7] == 'replace' then
    stopped = make_way(prefix, session_key(prefix, session), ARGV[7] == 'replace', now)
  end
  -- One that is put off enters when it is claimed, so that it holds up nobody until then.
  starts = delay > 0 and run_id or enter(prefix, session, run, run_id)
end
if not starts then
  return {run_id, 0, 1, stopped}
end
local first = prefix .. ':{' .. starts .. '}'
local woken = schedule(prefix, ARGV[6], first, starts, redis.call('HGET', first, 'queue'), now, delay)
return {run_id, 0, starts == run_id and woken or 1, stopped}
