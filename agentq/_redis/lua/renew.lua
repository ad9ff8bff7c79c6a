--[[
Extend many leases. A lease that expired and that nobody took is extended too.

Run keys are built from the prefix.

ARGV[1]  prefix     key prefix
ARGV[2]  lease_ms   lease length
ARGV[3]  run_ids*   runs
ARGV[4]  fences*    the fence of each
ARGV[5]  owners*    the owner of each

Returns for each run {held, signals, cancel requested}.
]]
-- @include clock
-- @include lists
-- @include lease

local run_ids, fences, owners = lists(3, 3)
local now = now_ms()
local answers = {}
for i, run_id in ipairs(run_ids) do
  local run = ARGV[1] .. ':{' .. run_id .. '}'
  local state = read(run, 'status', 'fence', 'owner', 'signals', 'cancel')
  local held = holds(state, fences[i], owners[i])
  if held then
    local lease_until = int(now + tonumber(ARGV[2]))
    redis.call('HSET', run, 'lease_until', lease_until)
    redis.call('ZADD', ARGV[1] .. ':due', lease_until, run_id)
  end
  answers[i] = {held and 1 or 0, tonumber(state.signals or '0'), state.cancel and 1 or 0}
end
return answers
