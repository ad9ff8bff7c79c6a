--[[
Journal what a person decided on a call, and queue the run if it waits.

Builds listing keys from the prefix.

KEYS[1]  run        run hash
KEYS[2]  journal    steps of this iteration
KEYS[3]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  call_id    the call
ARGV[4]  seen       the line of the journal for it, as whoever decides saw it
ARGV[5]  name       name of the decision's line
ARGV[6]  value      the decision, JSON
ARGV[7]  digest     of name and value; the same again has no effect
ARGV[8]  wakeup     template of the wake-up, or empty
ARGV[9]  items*     events

Returns {status, woken}, or
  -1  RunNotFound      there is no such run
  -2  NotWaiting       the call does not wait for this any more, or the run was cancelled or has ended
  -3  AlreadyDecided   another decision came first
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

-- So many of the last decisions are remembered: the journal holds them only until the call has its result.
local DECISIONS = 20

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'queue', 'cancel', 'decided')
if not state.status then
  return -1
end
local stands = redis.call('HGET', KEYS[2], ARGV[5])
local decided = {}
for digest in string.gmatch(state.decided or '', '%S+') do
  decided[#decided + 1] = digest
  stands = digest == ARGV[7] and ARGV[6] or stands
end
if stands == ARGV[6] then
  return {state.status, unheard(state.status, ARGV[8])}
elseif FINAL[state.status] or state.cancel then
  return -2
elseif stands then
  return -3
elseif redis.call('HGET', KEYS[2], ARGV[3]) ~= ARGV[4] then
  return -2
end
local now = now_ms()
redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
redis.call('HINCRBY', run, 'signals', 1)
decided[#decided + 1] = ARGV[7]
redis.call('HSET', run, 'updated', int(now), 'decided',
  table.concat(decided, ' ', math.max(#decided - DECISIONS + 1, 1)))
emit(run, KEYS[3], lists(9, 1), now)
if state.status ~= 'waiting' then
  return {state.status, 1}
end
local status = requeue(prefix, run, run_id)
return {status, schedule(prefix, ARGV[8], run, run_id, state.queue, now, 0, true)}
