--[[
Journal what a waiting run waited for, and queue it.

Builds listing keys from the prefix.

KEYS[1]  run        run hash
KEYS[2]  journal    steps of this iteration
KEYS[3]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  fence      the run's when it asked
ARGV[4]  name       name of the step
ARGV[5]  value      the step, JSON
ARGV[6]  digest     of name and value; the same again returns the first outcome
ARGV[7]  wakeup     template of the wake-up, or empty
ARGV[8]  items*     events

Returns {status, woken}, or
  -1  RunNotFound   there is no such run
  -2  NotWaiting    it does not wait for this
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
local state = read(run, 'status', 'fence', 'answered', 'queue')
if not state.status then
  return -1
end
local given = ARGV[3] .. ' ' .. ARGV[6]
local answered, woken_then = string.match(state.answered or '', '^(.*) (%d)$')
if answered == given then
  return {state.status == 'paused' and 'paused' or 'queued', tonumber(woken_then)}
end
if state.status ~= 'waiting' or state.fence ~= ARGV[3] then
  return -2
end
local now = now_ms()
redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
redis.call('HDEL', run, 'question')
redis.call('HINCRBY', run, 'signals', 1)
redis.call('HSET', run, 'updated', int(now))
emit(run, KEYS[3], lists(8, 1), now)
local status = set_status(prefix, run, run_id, 'waiting', 'queued')
local woken = schedule(prefix, ARGV[7], run, run_id, state.queue, now, 0)
redis.call('HSET', run, 'answered', given .. ' ' .. woken)
return {status, woken}
