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
ARGV[6]  value      the decision, JSON; the same again returns the same
ARGV[7]  wakeup     template of the wake-up, or empty
ARGV[8]  items*     events

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
-- @include wake
-- @include lease

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'queue', 'cancel')
if not state.status then
  return -1
end
local stands = redis.call('HGET', KEYS[2], ARGV[5])
if stands == ARGV[6] then
  return {state.status, 1}
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
redis.call('HSET', run, 'updated', int(now))
emit(run, KEYS[3], lists(8, 1), now)
if state.status ~= 'waiting' then
  return {state.status, 1}
end
local status = requeue(prefix, run, run_id)
return {status, schedule(prefix, ARGV[7], run, run_id, state.queue, now, 0, true)}
