--[[
Let a run go on that was paused, at the head of its queue. One that is not paused stays as it is.

Builds listing keys from the prefix.

KEYS[1]  run        run hash

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  wakeup     template of the wake-up, or empty
ARGV[4]  items*     events

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
local state = read(run, 'status', 'pause', 'queue', 'behind', 'not_before', 'resumed')
if not state.status then
  return -1
end
if not state.pause then
  -- Who was to wake it before, and perhaps never heard of that, is to do so now.
  return {state.status, state.status == 'queued' and number(state.resumed) or 1}
end
local now = now_ms()
redis.call('HDEL', run, 'pause')
redis.call('HINCRBY', run, 'signals', 1)
redis.call('HSET', run, 'updated', int(now))
emit(run, run .. ':events', lists(4, 1), now)
local woken = 1
if state.status == 'paused' then
  state.status = set_status(prefix, run, run_id, 'paused', 'queued')
  if not state.behind then
    local delay = math.max(number(state.not_before) - now, 0)
    woken = schedule(prefix, ARGV[3], run, run_id, state.queue, now, delay, true)
  end
end
redis.call('HSET', run, 'resumed', woken)
return {state.status, woken}
