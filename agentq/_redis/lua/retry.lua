--[[
Queue a run again that has failed or was cancelled, from its last commit and with its journal.

Builds listing keys, and keys of the session, from the prefix.

KEYS[1]  run        run hash
KEYS[2]  messages   transcript
KEYS[3]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  fence      the run's, as the caller saw it; the same again returns the first outcome
ARGV[4]  wakeup     template of the wake-up, or empty
ARGV[5]  contents*  messages to append, JSON
ARGV[6]  items*     events

Returns {status, woken}, or
  -1  RunNotFound         there is no such run
  -2  NotFinished         it has not ended, or another retry came first
  -3  IllegalTransition   it has completed
  -4  SessionMovedOn      a later run of its session has started
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
-- @include session
-- @include finish

local prefix, run, run_id, fence = ARGV[1], KEYS[1], ARGV[2], ARGV[3]
local state = read(run, 'status', 'fence', 'retried', 'session', 'user', 'queue', 'iteration', 'usage')
if not state.status then
  return -1
end
local retried, woken_then = string.match(state.retried or '', '^(%d+) (%d)$')
if retried == fence then
  return {'queued', tonumber(woken_then)}
end
if not FINAL[state.status] or state.fence ~= fence then
  return -2
end
if not TRANSITIONS[state.status]['queued'] then
  return -3
end
local now = now_ms()
local starts = run_id
if state.session then
  starts = rejoin(prefix, state.session, state.user, run, run_id, now)
  if starts == false then
    return -4
  end
end
local contents, items = lists(5, 2)
keep(prefix, run, run_id)
call_many('RPUSH', KEYS[2], contents)
redis.call('HDEL', run, 'cancel', 'lost', 'unsure', 'pause', 'forgets', 'started', 'progressed', 'asked')
redis.call('HINCRBY', run, 'retries', 1)
redis.call('HINCRBY', run, 'signals', 1)
redis.call('HSET', run, 'errors', '0', 'recoveries', '0', 'finished', '0', 'last_error', '', 'updated', int(now))
redis.call('HSET', run, 'length', redis.call('LLEN', KEYS[2]), 'retried_at', state.iteration or '0')
redis.call('HSET', run, 'retried_usage', state.usage or '')
emit(run, KEYS[3], items, now)
set_status(prefix, run, run_id, state.status, 'queued')
local woken = 1
if starts then
  local first = prefix .. ':{' .. starts .. '}'
  woken = schedule(prefix, ARGV[4], first, starts, redis.call('HGET', first, 'queue'), now, 0)
end
redis.call('HSET', run, 'retried', fence .. ' ' .. woken)
return {'queued', woken}
