--[[
Wake-ups: an RQ job hash and a push to its queue, written from the executor's template.

The template is JSON: {list, queues, job, fields, per_tenant}. `{run_id}`, `{job_id}`, `{queue}` and `{now}` in it are filled in.
An empty template means that somebody else does the waking. Due times stand in <prefix>:due.

A run that was interrupted goes to the head of its queue, so that a long queue does not hold it up again: it is `front`.
]]
-- A queued run is looked at again after this long, in case its wake-up was lost.
local GRACE_MS = 2000

local function filler(run_id, number, queue)
  local values = {run_id = run_id, job_id = run_id .. '-' .. number, queue = queue}
  return function(text)
    return (string.gsub(text, '{([%l_]+)}', values))
  end
end

-- Counts a wake-up, and writes it where there is a template.
local function push(shape, run, run_id, queue, now, front)
  local number = redis.call('HINCRBY', run, 'wake', 1)
  redis.call('HSET', run, 'woken', int(now), 'front', front and '1' or '')
  if not shape then
    return
  end
  local fill = filler(run_id, number, queue)
  local fields = {}
  for i, field in ipairs(shape.fields) do
    fields[i] = fill(field)
  end
  local list = fill(shape.list)
  redis.call('HSET', fill(shape.job), unpack(fields))
  redis.call(front and 'LPUSH' or 'RPUSH', list, fill('{job_id}'))
  redis.call('SADD', shape.queues, list)
end
