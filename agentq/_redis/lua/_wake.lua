--[[
Wake-ups: an RQ job hash and a push to its queue, written from the executor's template.

The template is JSON: {list, queues, job, fields}. `{run_id}`, `{job_id}`, `{queue}` and `{now}` in it are filled in.
An empty template means that somebody else does the waking. Due times stand in <prefix>:due.
]]
-- A queued run is looked at again after this long, in case its wake-up was lost.
local GRACE_MS = 2000

local function wake(template, run, run_id, queue, now)
  local number = redis.call('HINCRBY', run, 'wake', 1)
  redis.call('HSET', run, 'woken', int(now))
  if template == '' then
    return 0
  end
  local values = {run_id = run_id, job_id = run_id .. '-' .. number, queue = queue}
  local function fill(text)
    return (string.gsub(text, '{([%l_]+)}', values))
  end
  local shape = cjson.decode(template)
  local fields = {}
  for i, field in ipairs(shape.fields) do
    fields[i] = fill(field)
  end
  local list = fill(shape.list)
  redis.call('HSET', fill(shape.job), unpack(fields))
  redis.call('RPUSH', list, values.job_id)
  redis.call('SADD', shape.queues, list)
  return 1
end

-- Queues the wake-up of a run that may go on now, or leaves it to the sweeper until `delay` has passed.
local function schedule(prefix, template, run, run_id, queue, now, delay)
  if delay > 0 then
    redis.call('HSET', run, 'not_before', int(now + delay), 'woken', int(now + delay))
    redis.call('ZADD', prefix .. ':due', int(now + delay), run_id)
    return 1
  end
  redis.call('HSET', run, 'not_before', '0')
  redis.call('ZADD', prefix .. ':due', int(now + GRACE_MS), run_id)
  return wake(template, run, run_id, queue, now)
end
