--[[
Hand a run back as it is: queued, with its journal, without the deltas of the reply that was given up.

Builds listing keys from the prefix.

KEYS[1]  run        run hash
KEYS[2]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  fence      the lease's; the same again returns the first outcome
ARGV[4]  wakeup     template of the wake-up, or empty
ARGV[5]  items*     events

Returns {woken}, or
  -1  RunNotFound   there is no such run
  -2  LeaseLost     another claim came since
]]
-- @include clock
-- @include lists
-- @include emit
-- @include status
-- @include wake
-- @include lease
-- @include fence

local prefix, run, run_id, fence = ARGV[1], KEYS[1], ARGV[2], ARGV[3]
local state = read(run, 'status', 'fence', 'released', 'queue')
local released, woken_then = string.match(state.released or '', '^(%d+) (%d)$')
if released == fence then
  return {tonumber(woken_then)}
end
local code = refused(state, fence)
if code then
  return code
end
local items = lists(5, 1)
local now = now_ms()
reset(run, KEYS[2], 'released', now)
emit(run, KEYS[2], items, now)
redis.call('HSET', run, 'owner', '', 'lease_until', '0', 'phase', '', 'updated', int(now))
set_status(prefix, run, run_id, 'running', 'queued')
local woken = schedule(prefix, ARGV[4], run, run_id, state.queue, now, 0)
redis.call('HSET', run, 'released', fence .. ' ' .. woken)
return {woken}
