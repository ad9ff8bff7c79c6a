--[[ A run that was paused while somebody held it who is lost: there is nobody whose commit would leave it paused. ]]
local function rest_abandoned(prefix, run, run_id, now)
  local recoveries = redis.call('HINCRBY', run, 'recoveries', 1)
  local owner = redis.call('HGET', run, 'owner')
  reset(run, run .. ':events', 'recovered', now)
  emit(run, run .. ':events', {'e' .. cjson.encode({
    type = 'run.recovered', recoveries = recoveries, previous_owner = owner,
  })}, now)
  redis.call('HSET', run, 'owner', '', 'lease_until', '0', 'phase', '', 'updated', int(now))
  redis.call('ZREM', prefix .. ':due', run_id)
  set_status(prefix, run, run_id, 'running', 'queued')
end
