--[[
Wake-ups: an RQ job hash and a push to its queue, written from the executor's template.

The template is JSON: {list, queues, job, fields}. `{run_id}`, `{job_id}`, `{queue}` and `{now}` in it are filled in.
An empty template means that somebody else does the waking. Due times stand in <prefix>:due.

A run that was interrupted goes to the head of its queue, so that a long queue does not hold it up again: it is `front`.
]]
-- A queued run is looked at again after this long, in case its wake-up was lost.
local GRACE_MS = 2000
-- A run has one wake-up in line, more only where some seemed lost.
local WITHDRAWN = 5

local function filler(run_id, number, queue)
  local values = {run_id = run_id, job_id = run_id .. '-' .. number, queue = queue}
  return function(text)
    return (string.gsub(text, '{([%l_]+)}', values))
  end
end

local function wake(template, run, run_id, queue, now, front)
  local number = redis.call('HINCRBY', run, 'wake', 1)
  redis.call('HSET', run, 'woken', int(now), 'front', front and '1' or '')
  if template == '' then
    return 0
  end
  local fill = filler(run_id, number, queue)
  local shape = cjson.decode(template)
  local fields = {}
  for i, field in ipairs(shape.fields) do
    fields[i] = fill(field)
  end
  local list = fill(shape.list)
  redis.call('HSET', fill(shape.job), unpack(fields))
  redis.call(front and 'LPUSH' or 'RPUSH', list, fill('{job_id}'))
  redis.call('SADD', shape.queues, list)
  return 1
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
  if redis.call('HGET', run, 'status') == 'paused' then
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
  return wake(template, run, run_id, queue, now, front)
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
