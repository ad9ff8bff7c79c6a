--[[
The firing of a schedule that a new run is: {name of the schedule, where it stands, the firing, the next one, 1 to leave it
out while the schedule's last run is open}.
]]
local function fires(prefix, firing, run_id)
  local name, seen, slot, next_slot, skips_open = unpack(firing)
  local hash = prefix .. ':schedule:' .. name
  local of = redis.call('HMGET', hash, 'slot', 'last_run', 'paused')
  if of[1] ~= seen or of[3] then
    return false
  end
  redis.call('HSET', hash, 'slot', next_slot)
  redis.call('ZADD', prefix .. ':schedules', next_slot, name)
  local status = of[2] and redis.call('HGET', prefix .. ':{' .. of[2] .. '}', 'status')
  if skips_open == '1' and status and not FINAL[status] then
    redis.call('HINCRBY', hash, 'skipped', 1)
    return false
  end
  redis.call('HSET', hash, 'last_slot', slot, 'last_run', run_id)
  redis.call('HINCRBY', hash, 'fired', 1)
  return true
end
