--[[ Asking runs to stop: one, and the runs that it started, which stand in its list `:children`. ]]
-- The worker that holds the run is told at once; a run that nobody holds becomes due at once. Returns the status and whether
-- a live lease exists.
local function ask_to_cancel(prefix, run, run_id, reason, items, now)
  local state = read(run, 'status', 'cancel', 'owner', 'lease_until')
  local held = state.status == 'running' and number(state.lease_until) > now
  if FINAL[state.status] or state.cancel then
    return state.status, held
  end
  redis.call('HSET', run, 'cancel', reason, 'updated', int(now), 'not_before', '0')
  redis.call('HDEL', run, 'pause')
  redis.call('HINCRBY', run, 'signals', 1)
  emit(run, run .. ':events', items, now)
  if held then
    redis.call('PUBLISH', prefix .. ':worker:' .. state.owner .. ':cancels', run_id)
  else
    if state.status == 'waiting' or state.status == 'paused' then
      set_status(prefix, run, run_id, state.status, 'queued')
      redis.call('HDEL', run, 'question')
      state.status = 'queued'
    end
    redis.call('HSET', run, 'woken', '0')
    redis.call('ZADD', prefix .. ':due', int(now), run_id)
  end
  return state.status, held
end

-- Asks all runs below a run to stop that have not ended.
local function cancel_children(prefix, run, reason, now)
  local items = {'e' .. cjson.encode({type = 'cancel.requested', reason = reason})}
  local above = {run}
  while #above > 0 do
    for _, child_id in ipairs(redis.call('LRANGE', table.remove(above) .. ':children', 0, -1)) do
      local child = prefix .. ':{' .. child_id .. '}'
      local status = redis.call('HGET', child, 'status')
      if status and not FINAL[status] then
        ask_to_cancel(prefix, child, child_id, reason, items, now)
        above[#above + 1] = child
      end
    end
  end
end
