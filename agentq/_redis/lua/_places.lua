--[[
Places of a concurrency key: at most so many runs with the key are queued or running after their first claim; the others stand in
line, first in, first out, with the field `gated` and without a due time. The set <prefix>:places:{KEY} names the runs that have a
place, so it cannot drift as a number would; its list `:line` those behind. <prefix>:places is the index: key → when it was checked.
Each run says how many places its key has (`places`).
]]
-- Runs that this script has given a place, and that are to be woken.
local admitted = {}

local function places_key(prefix, key)
  return prefix .. ':places:{' .. key .. '}'
end

-- Gives free places to those in line, in order. They become due at once.
local function fill_places(prefix, key)
  local places = places_key(prefix, key)
  while true do
    local run_id = redis.call('LINDEX', places .. ':line', 0)
    if not run_id then
      return
    end
    local next_run = prefix .. ':{' .. run_id .. '}'
    local of = redis.call('HMGET', next_run, 'gated', 'places')
    -- One that was deleted by hand must not hold up the others.
    if of[1] then
      if redis.call('SCARD', places) >= (tonumber(of[2]) or 1) then
        return
      end
      redis.call('HDEL', next_run, 'gated')
      redis.call('HSET', next_run, 'woken', '0')
      redis.call('SADD', places, run_id)
      redis.call('ZADD', prefix .. ':due', 0, run_id)
      admitted[#admitted + 1] = run_id
    end
    redis.call('LPOP', places .. ':line')
  end
end

-- A run that rests or has ended needs no place, nor stands in line for one, or for a wake-up.
local function leave_place(prefix, run, run_id)
  local of = redis.call('HMGET', run, 'concurrency_key', 'gated', 'shelved')
  if of[3] then
    redis.call('HDEL', run, 'shelved')
    redis.call('ZREM', prefix .. ':tenant:{' .. of[3] .. '}:line', run_id)
  end
  if not of[1] then
    return
  end
  if of[2] then
    redis.call('HDEL', run, 'gated')
    redis.call('LREM', places_key(prefix, of[1]) .. ':line', 1, run_id)
  end
  if redis.call('SREM', places_key(prefix, of[1]), run_id) == 1 then
    fill_places(prefix, of[1])
  end
end

-- Whether a run that is about to be claimed has a place; else it is in line now: at the head, if it was under way before.
local function may_go_on(prefix, state, run, run_id, now)
  if state.cancel or state.status ~= 'queued' then
    if state.gated then
      -- It only ends, for which it needs no place.
      leave_place(prefix, run, run_id)
    end
    return true
  end
  local places = places_key(prefix, state.concurrency_key)
  if redis.call('SISMEMBER', places, run_id) == 1 then
    return true
  end
  local taken = redis.call('SCARD', places)
  if taken == 0 then
    redis.call('ZADD', prefix .. ':places', int(now), state.concurrency_key)
  end
  -- It would be the first in line, and those who stand there may have to wait for more places to be free.
  local goes_first = (tonumber(state.fence) or 0) > 0
  if taken < (tonumber(state.places) or 1) and (goes_first or redis.call('EXISTS', places .. ':line') == 0) then
    redis.call('SADD', places, run_id)
    return true
  end
  redis.call('HSET', run, 'gated', '1')
  redis.call(goes_first and 'LPUSH' or 'RPUSH', places .. ':line', run_id)
  redis.call('ZREM', prefix .. ':due', run_id)
  return false
end

-- Takes places from runs that cannot have one, of the keys that were not checked for `every` milliseconds.
local function check_places(prefix, now, every, limit)
  local index = prefix .. ':places'
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', int(now - every), 'LIMIT', 0, limit)) do
    local places = places_key(prefix, key)
    for _, run_id in ipairs(redis.call('SMEMBERS', places)) do
      local of = redis.call('HMGET', prefix .. ':{' .. run_id .. '}', 'status', 'concurrency_key')
      if (of[1] ~= 'queued' and of[1] ~= 'running') or of[2] ~= key then
        redis.call('SREM', places, run_id)
      end
    end
    fill_places(prefix, key)
    if redis.call('EXISTS', places, places .. ':line') == 0 then
      redis.call('ZREM', index, key)
    else
      redis.call('ZADD', index, int(now), key)
    end
  end
end
