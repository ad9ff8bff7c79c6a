--[[ Waking a run: by a wake-up that is written now, in line of its tenant, or by the sweeper. ]]
-- A run has one wake-up in line, more only where some seemed lost.
local WITHDRAWN = 5

-- Returns 0 where somebody else has to wake it.
local function wake(prefix, template, run, run_id, queue, now, front, tenant)
  local shape = template ~= '' and cjson.decode(template)
  if tenant and shape and shape.per_tenant then
    tenants().wake(prefix, template, shape, run, run_id, queue, tenant, now, front)
  else
    push(shape, run, run_id, queue, now, front)
  end
  return shape and 1 or 0
end

-- Takes the newest wake-ups of a run that has ended off its queue, where perhaps no worker ever comes. A claim deletes the
-- job of each wake-up that it takes, so mostly there is nothing to look for; a job that is there and not in line is being
-- carried out by a worker of RQ, who deletes it.
local function withdraw(template, run, run_id, queue)
  local newest = tonumber(redis.call('HGET', run, 'wake'))
  if template == '' or not newest then
    return
  end
  local shape = cjson.decode(template)
  for number = math.max(newest - WITHDRAWN + 1, 1), newest do
    local fill = filler(run_id, int(number), queue)
    local job = fill(shape.job)
    if redis.call('EXISTS', job) == 1 and redis.call('LREM', fill(shape.list), -1, fill('{job_id}')) == 1 then
      redis.call('DEL', job)
    end
  end
end

-- Queues the wake-up of a run that may go on now, or leaves it to the sweeper until `delay` has passed. One that is paused
-- is woken when it is resumed.
local function schedule(prefix, template, run, run_id, queue, now, delay, front)
  local of = redis.call('HMGET', run, 'status', 'tenant')
  if of[1] == 'paused' then
    redis.call('HSET', run, 'not_before', delay > 0 and int(now + delay) or '0')
    redis.call('ZREM', prefix .. ':due', run_id)
    return 1
  end
  if delay > 0 then
    redis.call('HSET', run, 'not_before', int(now + delay), 'woken', int(now + delay))
    redis.call('ZADD', prefix .. ':due', int(now + delay), run_id)
    return 1
  end
  redis.call('HSET', run, 'not_before', '0')
  redis.call('ZADD', prefix .. ':due', int(now + GRACE_MS), run_id)
  return wake(prefix, template, run, run_id, queue, now, front, of[2])
end

-- What a command says of the wake-up that has no effect, for it was sent before: who wakes the run where no script does has
-- perhaps never heard of that, and is to do so now.
local function unheard(status, template)
  return status == 'queued' and template == '' and 0 or 1
end

-- Wakes the runs that this script has given a place; without a template a sweep finds them, for they are due.
local function wake_admitted(prefix, template, now)
  for _, run_id in ipairs(template ~= '' and admitted or {}) do
    local run = prefix .. ':{' .. run_id .. '}'
    schedule(prefix, template, run, run_id, redis.call('HGET', run, 'queue'), now, 0)
  end
end
