--[[
Note that Redis has lost what a worker had written to a run, and leave it to the next claim what to do about it.

KEYS[1]  run        run hash
KEYS[2]  events     event stream
KEYS[3]  epoch      what is known of losses

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  fence      the lease's; the same again changes nothing
ARGV[4]  committed  fence of the last commit that the worker knows of; where that is gone, so may be its calls
ARGV[5]  unsure     1 when a call with an effect may have been made of which nothing is stored any more
ARGV[6]  ttl_ms     how long the loss is remembered
ARGV[7]  items*     events

Returns {marked}: 1, or 0 when the whole run is gone.
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease

local run, run_id = KEYS[1], ARGV[2]
local now, fence = now_ms(), tonumber(ARGV[3])
local state = read(run, 'status', 'fence', 'committed', 'lost_fence', 'unsure', 'lease_until')
local unsure = ARGV[5] == '1' or number(state.committed) < tonumber(ARGV[4])
if number(state.lost_fence) >= fence and (state.unsure or not unsure) then
  return {1}
end
redis.call('HSET', KEYS[3], 'lost', int(now))
redis.call('HINCRBY', KEYS[3], 'losses', 1)
redis.call('PEXPIRE', KEYS[3], ARGV[6])
if not state.status then
  return {0}
end
redis.call('HSET', run, 'lost', int(now), 'lost_fence', int(math.max(number(state.lost_fence), fence)))
if unsure then
  redis.call('HSET', run, 'unsure', '1')
end
redis.call('HINCRBY', run, 'signals', 1)
if state.status ~= 'running' or number(state.lease_until) <= now then
  -- So that no later claim gets a fence that was given out before.
  redis.call('HSET', run, 'fence', int(math.max(number(state.fence), fence)))
end
emit(run, KEYS[2], lists(7, 1), now)
if state.status == 'queued' then
  redis.call('HSET', run, 'woken', '0')
  redis.call('ZADD', ARGV[1] .. ':due', int(now), run_id)
end
return {1}
