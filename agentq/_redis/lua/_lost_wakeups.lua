--[[ Whether the wake-up of a queued run is gone: a worker died that had taken it, or a queue was emptied. ]]
local heads = {}
-- The run at the head of a queue and when its wake-up was written. A head that is not ours, or is not the newest wake-up
-- of its run, tells nothing and will be popped soon: it counts as old, so that everybody waits for that.
local function head_of(prefix, shape, queue)
  if not heads[queue] then
    local list = string.gsub(shape.list, '{queue}', function() return queue end)
    local job_id = redis.call('LINDEX', list, 0)
    local run_id, number = string.match(job_id or '', '^(%w+)%-(%d+)$')
    local of = run_id and redis.call('HMGET', prefix .. ':{' .. run_id .. '}', 'wake', 'woken', 'front') or {}
    local newest = number ~= nil and of[1] == number
    local front = newest and of[3] == '1'
    heads[queue] = {empty = not job_id, run_id = run_id, front = front, woken = newest and tonumber(of[2]) or 0}
  end
  return heads[queue]
end

-- A list is first in, first out: when its head is younger than a wake-up, that wake-up is gone. One that was put at the
-- head is gone when something else stands there that was not; it tells nothing of those behind it.
local function is_lost(prefix, shape, run_id, state)
  local since = number(state.woken)
  if since == 0 or not shape then
    return true
  end
  local head = head_of(prefix, shape, state.queue)
  if head.front then
    return false
  elseif state.front == '1' then
    return head.empty or head.run_id ~= run_id
  end
  return head.empty or (head.run_id ~= run_id and head.woken > since)
end
