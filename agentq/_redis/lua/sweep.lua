--[[
Find runs that nobody is about to advance, and wake them: expired leases, due delays, lost wake-ups, runs that waited
for a worker with their agent. Prune listings.

Run ids are discovered here, so their keys are built from the prefix. Every worker sweeps; a pass that comes too soon
after another only wakes the runs that waited for its agents, unless that one had to stop at its limit. After a pause of
more than half a lease (Redis was away, or all workers were) leases are given one lease more, so that workers that are
alive can renew them first.

KEYS[1]  due         runs and when to look at them
KEYS[2]  last        {time of the last pass, time until which leases are not recovered}

ARGV[1]  prefix      key prefix
ARGV[2]  lease_ms    lease length
ARGV[3]  wakeup      template of the wake-up, or empty
ARGV[4]  limit       how many runs to wake at most
ARGV[5]  spacing_ms  least time between two passes
ARGV[6]  agents*     agents that the caller serves

Runs of what is paused as a whole are parked in place of being woken.

Returns {run ids that were woken or are in line of their tenant now, run ids that the caller has to wake, how many were pruned}.
]]
-- @include clock
-- @include lists
-- @include emit
-- @include push
-- @include tenants
-- @include wake
-- @include lease
-- @include places
-- @include status
-- @include session
-- @include finish
-- @include abandoned
-- @include pauses
-- @include lost_wakeups

-- Runs behind a long queue are only looked at, so a pass looks at more runs than it wakes.
local LOOKS = 1000
-- A queued run whose wake-up is in line behind others is looked at again after this long.
local IN_LINE_MS = 10000
local PRUNE = 1000
local DAY_MS = 86400000
-- Places and tenants are looked after by the scripts that change them; this is for what was changed otherwise.
local CHECK_MS, CHECKS = 10000, 5

local prefix, template, limit, spacing = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local agents = lists(6, 1)
local now = now_ms()
local last, hold = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) (%d+)$')
last, hold = tonumber(last or now), tonumber(hold or 0)
-- Sweeps of several workers may keep step, so that the same one is always too soon: what only it can wake, it does.
local is_soon = now > last and now - last < spacing
if now - last > tonumber(ARGV[2]) / 2 then
  hold = now + tonumber(ARGV[2])
end

local shape = template ~= '' and cjson.decode(template)
local pauses = all_pauses(prefix)

-- When to look at a run again, or nil for: wake it now.
local function when(run_id, state)
  if state.status == 'running' then
    local lease_until = number(state.lease_until)
    if lease_until > now then
      return lease_until
    elseif hold > now then
      return hold
    end
    -- Its claim has taken the wake-up that it had, so it has another only if a sweep has made one.
    return state.front == '1' and not is_lost(prefix, shape, run_id, state) and now + GRACE_MS or nil
  end
  local not_before = number(state.not_before)
  if not_before > now then
    return not_before
  end
  return not_before == 0 and not is_lost(prefix, shape, run_id, state) and now + IN_LINE_MS or nil
end

local woken, to_wake = {}, {}
local function ring(run_id, run, state)
  if state.status == 'queued' then
    redis.call('HSET', run, 'not_before', '0')
  end
  redis.call('ZADD', KEYS[1], int(now + GRACE_MS), run_id)
  local front = state.status == 'running' -- It had its turn, so it does not wait for others of its tenant.
  local list = wake(prefix, template, run, run_id, state.queue, now, front, not front and state.tenant) == 1 and woken or to_wake
  list[#list + 1] = run_id
end

local function look(run_id, is_served)
  local run = prefix .. ':{' .. run_id .. '}'
  local state = read(run, 'status', 'lease_until', 'not_before', 'woken', 'front', 'queue', 'behind', 'cancel', 'pause', 'agent',
    'gated', 'shelved', 'tenant')
  if not state.status then
    redis.call('ZREM', KEYS[1], run_id)
    local next_id = forget(prefix, run, run_id, now)
    local next_run = next_id and prefix .. ':{' .. next_id .. '}'
    if next_run then
      ring(next_id, next_run, read(next_run, 'status', 'queue', 'tenant'))
    end
    return
  end
  if has_waited(state, now) then
    state.status, state.woken, state.not_before = requeue(prefix, run, run_id), '0', '0'
  elseif state.status == 'waiting' and number(state.not_before) > 0 then
    redis.call('ZADD', KEYS[1], int(number(state.not_before)), run_id)
    return
  end
  local rests = (state.status ~= 'running' and state.status ~= 'queued') or ((state.behind or state.gated or state.shelved) and not state.cancel)
  if rests or not state.queue then
    redis.call('ZREM', KEYS[1], run_id)
    return
  end
  local again
  if not is_served then
    again = when(run_id, state)
  else
    -- It was set aside, and may have been taken, or put off, since.
    again = math.max(number(state.not_before), state.status == 'running' and number(state.lease_until) or 0)
    again = again > now and again or nil
  end
  if again then
    redis.call('ZADD', KEYS[1], int(again), run_id)
  elseif state.status == 'running' and state.pause and not state.cancel then
    rest_abandoned(prefix, run, run_id, now)
  else
    local scope = not state.cancel and scope_of(pauses, state.agent, state.queue)
    if scope then
      park(prefix, run, run_id, scope, now)
    else
      ring(run_id, run, state)
    end
  end
end

local function is_full()
  return #woken + #to_wake >= limit
end

if not is_soon then
  check_places(prefix, now, CHECK_MS, CHECKS)
  tenants().check(prefix, template, now, CHECK_MS, CHECKS)
end
-- What was resumed goes first, and whoever sweeps wakes it.
for scope, pause in pairs(pauses) do
  local parked = prefix .. ':parked:' .. scope
  while pause == '' and not is_full() do
    local run_id = redis.call('ZPOPMIN', parked)[1]
    if not run_id then
      redis.call('HDEL', prefix .. ':paused', scope)
      break
    end
    if redis.call('HDEL', prefix .. ':{' .. run_id .. '}', 'parked') == 1 then
      look(run_id, true)
    end
  end
end
local due = is_soon and {} or redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, LOOKS)
for _, run_id in ipairs(due) do
  if is_full() then
    break
  end
  look(run_id, false)
end
for _, agent in ipairs(agents) do
  local unserved = prefix .. ':unserved:' .. agent
  while not is_full() and redis.call('EXISTS', unserved) == 1 do
    look(redis.call('ZPOPMIN', unserved)[1], true)
  end
end

if is_soon then
  return {woken, to_wake, 0}
end
-- After a pass that was cut short the next one may come at once.
redis.call('SET', KEYS[2], int(is_full() and now - spacing or now) .. ' ' .. int(hold), 'PX', DAY_MS)
return {woken, to_wake, prune(prefix, now, PRUNE) + prune_sessions(prefix, now, PRUNE)}
