--[[
Keep what happened outside for a run, and queue the run if it waits.

Builds listing keys from the prefix.

KEYS[1]  run        run hash
KEYS[2]  signals    hash: signal id → number and JSON; of one that was taken, nothing
KEYS[3]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  signal_id  the same again has no effect
ARGV[4]  value      the signal, JSON
ARGV[5]  wakeup     template of the wake-up, or empty
ARGV[6]  items*     events

Returns {status, woken}, or
  -1  RunNotFound          there is no such run
  -2  RunAlreadyFinished   it has ended
  -3  InboxFull            too many signals wait for it
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

-- So many signals may wait for a run that no step has taken.
local ROOM = 1000

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'queue', 'kept')
if not state.status then
  return -1
end
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then
  return {state.status, unheard(state.status, ARGV[5])}
elseif FINAL[state.status] then
  return -2
elseif number(state.kept) >= ROOM then
  return -3
end
local now = now_ms()
redis.call('HINCRBY', run, 'kept', 1)
redis.call('HSET', KEYS[2], ARGV[3], int(redis.call('HLEN', KEYS[2]) + 1) .. ' ' .. ARGV[4])
redis.call('HINCRBY', run, 'signals', 1)
redis.call('HSET', run, 'updated', int(now))
emit(run, KEYS[3], lists(6, 1), now)
if state.status ~= 'waiting' then
  return {state.status, 1}
end
local status = requeue(prefix, run, run_id)
return {status, schedule(prefix, ARGV[5], run, run_id, state.queue, now, 0, true)}
