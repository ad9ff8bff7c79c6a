--[[
Ask a run to stop. The worker that holds it is told at once; a run that nobody holds becomes due at once.

Builds listing keys from the prefix. Again: no effect.

KEYS[1]  run        run hash
KEYS[2]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  reason     words for people, may be empty
ARGV[4]  items*     events

Returns {status, a live lease exists}, or
  -1  RunNotFound          there is no such run
  -2  RunAlreadyFinished   it has completed or failed
]]
-- @include clock
-- @include lists
-- @include emit
-- @include status
-- @include lease

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'cancel', 'owner', 'lease_until')
if not state.status then
  return -1
end
if state.status == 'completed' or state.status == 'failed' then
  return -2
end
local now = now_ms()
local held = state.status == 'running' and tonumber(state.lease_until) > now
if state.status == 'cancelled' or state.cancel then
  return {state.status, held and 1 or 0}
end
local items = lists(4, 1)
redis.call('HSET', run, 'cancel', ARGV[3], 'updated', int(now), 'not_before', '0')
redis.call('HINCRBY', run, 'signals', 1)
emit(run, KEYS[2], items, now)
if held then
  redis.call('PUBLISH', prefix .. ':worker:' .. state.owner .. ':cancels', run_id)
else
  if state.status == 'waiting' or state.status == 'paused' then
    set_status(prefix, run, run_id, state.status, 'queued')
    redis.call('HDEL', run, 'question')
    state.status = 'queued'
  end
  redis.call('HSET', run, 'woken', '0')
  redis.call('ZADD', prefix .. ':due', int(now), run_id)
end
return {state.status, held and 1 or 0}
