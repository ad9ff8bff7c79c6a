--[[
Hand a run back as it is, with its journal, without the deltas of the reply that was given up: queued, at the head of its
queue, or waiting for somebody. When signals came that the worker has not seen, it is queued in any case.

Builds listing keys from the prefix.

KEYS[1]  run        run hash
KEYS[2]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  fence      the lease's; the same again returns the first outcome
ARGV[4]  owner      the lease's
ARGV[5]  batch      number of this batch within the claim
ARGV[6]  wakeup     template of the wake-up, or empty
ARGV[7]  question   what the run waits for, JSON, or empty
ARGV[8]  signals    how many signals the worker has seen
ARGV[9]  within_ms  the run can be claimed again after so long, whatever has happened; 0 for not so
ARGV[10]  asks       what of that people are to say, JSON, or empty
ARGV[11]  items*     events
ARGV[12]  closing*   events that hold only if the run waits

Returns {status, woken}, or
  -1  RunNotFound   there is no such run
  -2  LeaseLost     another claim came since
  -9  DataLost      Redis has lost what it had acknowledged
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
-- @include fence
-- @include webhooks

local prefix, run, run_id, fence = ARGV[1], KEYS[1], ARGV[2], ARGV[3]
local state = read(run, 'status', 'fence', 'released', 'queue', 'signals', 'owner', 'batch')
local released, status_then, woken_then = string.match(state.released or '', '^(%d+) (%l+) (%d)$')
if released == fence then
  return {status_then, tonumber(woken_then)}
end
local code = refused(state, fence, ARGV[4])
if code then
  return code
end
if has_gap(state, fence, ARGV[5]) then
  return -9
end
local items, closing = lists(11, 2)
local rests = ARGV[7] ~= '' and number(state.signals) <= tonumber(ARGV[8])
local status, woken = rests and 'waiting' or 'queued', 0
local now = now_ms()
reset(run, KEYS[2], 'released', now)
emit(run, KEYS[2], items, now)
redis.call('HSET', run, 'owner', '', 'lease_until', '0', 'phase', '', 'updated', int(now))
status = set_status(prefix, run, run_id, 'running', status)
if rests then
  emit(run, KEYS[2], closing, now)
  redis.call('HSET', run, 'question', ARGV[7])
  -- Its time without progress stands still: the next claim counts from there.
  redis.call('HDEL', run, 'progressed')
  local within = tonumber(ARGV[9])
  redis.call('HSET', run, 'not_before', within > 0 and int(now + within) or '0')
  if within > 0 then
    redis.call('ZADD', prefix .. ':due', int(now + within), run_id)
  else
    redis.call('ZREM', prefix .. ':due', run_id)
  end
  if ARGV[10] ~= '' and status == 'waiting' then
    redis.call('ZADD', prefix .. ':runs:asks:people', 0, run_id)
    tell_of_questions(prefix, run, run_id, now, ARGV[10])
  end
else
  woken = schedule(prefix, ARGV[6], run, run_id, state.queue, now, 0, true)
end
wake_admitted(prefix, ARGV[6], now)
redis.call('HSET', run, 'released', fence .. ' ' .. status .. ' ' .. woken)
return {status, woken}
