--[[
Find runs that nobody is about to advance, and wake them: expired leases, due delays, lost wake-ups. Prune listings.

Run ids are discovered here, so their keys are built from the prefix. Every worker sweeps; a pass that comes too soon
after another does nothing. After a pause of more than half a lease (Redis was away, or all workers were) leases are
given one lease more, so that workers that are alive can renew them first.

KEYS[1]  due         runs and when to look at them
KEYS[2]  last        {time of the last pass, time until which leases are not recovered}

ARGV[1]  prefix      key prefix
ARGV[2]  lease_ms    lease length
ARGV[3]  wakeup      template of the wake-up, or empty
ARGV[4]  limit       how many runs to wake at most
ARGV[5]  spacing_ms  least time between two passes

Returns {woken run ids, run ids that the caller has to wake, how many were pruned}.
]]
-- @include clock
-- @include lists
-- @include emit
-- @include wake
-- @include lease
-- @include finish

-- Runs behind a long queue are only looked at, so a pass looks at more runs than it wakes.
local LOOKS = 1000
-- A queued run whose wake-up is in line behind others is looked at again after this long.
local IN_LINE_MS = 10000
local DAY_MS = 86400000

local prefix, template, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local now = now_ms()
local last, hold = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) (%d+)$')
last, hold = tonumber(last or now), tonumber(hold or 0)
if now > last and now - last < tonumber(ARGV[5]) then
  return {{}, {}, 0}
end
if now - last > tonumber(ARGV[2]) / 2 then
  hold = now + tonumber(ARGV[2])
end
redis.call('SET', KEYS[2], int(now) .. ' ' .. int(hold), 'PX', DAY_MS)

local shape = template ~= '' and cjson.decode(template)
local heads = {}
-- When the wake-up at the head of the run's queue was written: older ones are gone from the list. nil: list is empty.
local function head_woken(queue)
  if heads[queue] == nil then
    local list = string.gsub(shape.list, '{queue}', function() return queue end)
    local job_id = redis.call('LINDEX', list, 0)
    local run_id = job_id and string.match(job_id, '^(%w+)%-%d+$')
    local woken = run_id and redis.call('HGET', prefix .. ':{' .. run_id .. '}', 'woken')
    -- The head is not ours or names a run that is gone: it will be popped soon, so wait for that.
    heads[queue] = job_id and tonumber(woken or 0) or math.huge
  end
  return heads[queue]
end

local woken, to_wake = {}, {}
for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, LOOKS)) do
  if #woken + #to_wake >= limit then
    break
  end
  local run = prefix .. ':{' .. run_id .. '}'
  local state = read(run, 'status', 'lease_until', 'not_before', 'woken', 'queue')
  local ring, again = false, nil
  if state.status == 'running' then
    local lease_until = tonumber(state.lease_until)
    if lease_until > now then
      again = lease_until
    elseif hold > now then
      again = hold
    else
      ring = true
    end
  elseif state.status == 'queued' then
    local since = tonumber(state.woken or 0)
    if tonumber(state.not_before) > now then
      again = tonumber(state.not_before)
    elseif tonumber(state.not_before) > 0 or since == 0 or not shape or head_woken(state.queue) > since then
      ring = true
    else
      again = now + IN_LINE_MS
    end
  else
    redis.call('ZREM', KEYS[1], run_id)
  end
  if ring then
    again = now + GRACE_MS
    if state.status == 'queued' then
      redis.call('HSET', run, 'not_before', '0')
    end
    local list = wake(template, run, run_id, state.queue, now) == 1 and woken or to_wake
    list[#list + 1] = run_id
  end
  if again then
    redis.call('ZADD', KEYS[1], int(again), run_id)
  end
end
return {woken, to_wake, prune(prefix, now, limit)}
