--[[
Give a run limits of its own. One that waits because it had reached a limit is queued, to look at them.

Builds listing keys from the prefix. The same limits again, where nothing waits for them: no effect.

KEYS[1]  run        run hash
KEYS[2]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  limits     the run's limits, JSON
ARGV[4]  wakeup     template of the wake-up, or empty
ARGV[5]  items*     events

Returns {status, woken}, or
  -1  RunNotFound   there is no such run
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

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'limits', 'question', 'queue')
if not state.status then
  return -1
end
local waits = state.status == 'waiting' and waits_for_limit(state.question)
if state.limits == ARGV[3] and not waits then
  return {state.status, unheard(state.status, ARGV[4])}
end
local now = now_ms()
redis.call('HSET', run, 'limits', ARGV[3], 'updated', int(now))
redis.call('HINCRBY', run, 'signals', 1)
-- Nothing follows the last event of a run that has ended.
if not FINAL[state.status] then
  emit(run, KEYS[2], lists(5, 1), now)
end
if not waits then
  return {state.status, 1}
end
local status = requeue(prefix, run, run_id)
return {status, schedule(prefix, ARGV[4], run, run_id, state.queue, now, 0, true)}
