--[[ What a new run does to a session that is busy: nothing, or it stops the runs that are there. ]]
local NEWER = 'a newer message took its place'

local function is_open(prefix, run_id)
  local status = run_id and redis.call('HGET', prefix .. ':{' .. run_id .. '}', 'status')
  return status and not FINAL[status]
end

-- Whether a run of the session is under way or in line.
local function is_busy(prefix, key)
  return is_open(prefix, redis.call('HGET', key, 'live')) or redis.call('LLEN', key .. ':line') > 0
end

-- Asks the live run to stop and those in line, which leave the line; with `forgets`, nothing of the live one is kept in the
-- session. Returns the ids of those that nobody holds.
local function make_way(prefix, key, forgets, now)
  local unheld, items = {}, {'e' .. cjson.encode({type = 'cancel.requested', reason = NEWER})}
  local function stop(run_id)
    local run = prefix .. ':{' .. run_id .. '}'
    redis.call('HDEL', run, 'behind')
    local _, held = ask_to_cancel(prefix, run, run_id, NEWER, items, now)
    cancel_children(prefix, run, 'its parent was cancelled', now)
    if not held then
      unheld[#unheld + 1] = run_id
    end
  end
  local live = redis.call('HGET', key, 'live')
  if is_open(prefix, live) then
    if forgets then
      redis.call('HSET', prefix .. ':{' .. live .. '}', 'forgets', '1')
    end
    stop(live)
  end
  for _, run_id in ipairs(redis.call('LRANGE', key .. ':line', 0, -1)) do
    if is_open(prefix, run_id) then
      stop(run_id)
    else
      -- One that was deleted by hand must not keep the session alive.
      redis.call('HINCRBY', key, 'open', -1)
    end
  end
  redis.call('DEL', key .. ':line')
  return unheld
end
