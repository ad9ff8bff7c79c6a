--[[
Pause a run: no worker takes it until it is resumed. A run that somebody holds finishes its iteration first.

Builds listing keys from the prefix. Again: no effect.

KEYS[1]  run        run hash

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  reason     words for people, may be empty
ARGV[4]  by         who does it, may be empty
ARGV[5]  items*     events

Returns {status, a live lease exists}, or
  -1  RunNotFound          there is no such run
  -2  RunAlreadyFinished   it has ended
  -3  CancelRequested      it was cancelled, and is about to end
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status', 'pause', 'cancel', 'lease_until')
if not state.status then
  return -1
elseif FINAL[state.status] then
  return -2
elseif state.cancel then
  return -3
end
local now = now_ms()
local held = state.status == 'running' and number(state.lease_until) > now
if state.pause then
  return {state.status, held and 1 or 0}
end
local pause = cjson.encode({reason = ARGV[3], by = ARGV[4], at_ms = int(now)})
redis.call('HSET', run, 'pause', pause, 'updated', int(now))
redis.call('HINCRBY', run, 'signals', 1)
emit(run, run .. ':events', lists(5, 1), now)
if state.status == 'queued' then
  state.status = set_status(prefix, run, run_id, 'queued', 'queued')
  redis.call('ZREM', prefix .. ':due', run_id)
end
return {state.status, held and 1 or 0}
