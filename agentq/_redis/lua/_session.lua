--[[
Sessions: the runs of one conversation, one after the other, and the transcript that they share.

The hash <prefix>:session:{S} names the run that is live; the runs in line behind it stand in its list `:line`, first in,
first out, with the field `behind` and without a due time. A run enters when it may start for the first time, and sees the
messages that the session has when it goes live: the field `history` counts them. `open` counts the runs that are not
final; while there are any, the session has no time to live.
]]
local function session_key(prefix, session)
  return prefix .. ':session:{' .. session .. '}'
end

local function session_keys(key)
  return {key, key .. ':messages', key .. ':files', key .. ':values'}
end

-- Makes the first run in line the live one and returns its id, or nil when nobody is in line.
local function promote(prefix, key)
  while true do
    local run_id = redis.call('LPOP', key .. ':line')
    if not run_id then
      redis.call('HDEL', key, 'live')
      return nil
    end
    local run = prefix .. ':{' .. run_id .. '}'
    if redis.call('HDEL', run, 'behind') == 1 then
      redis.call('HSET', key, 'live', run_id)
      redis.call('HSET', run, 'history', redis.call('LLEN', key .. ':messages'))
      return run_id
    end
    -- One that was deleted by hand must neither hold up the others nor keep the session alive.
    redis.call('HINCRBY', key, 'open', -1)
  end
end

-- Puts a run in line and returns the run that has gone live by that: itself, mostly, or nil when another is live.
local function enter(prefix, session, run, run_id)
  local key = session_key(prefix, session)
  redis.call('RPUSH', key .. ':line', run_id)
  redis.call('HSET', run, 'behind', '1')
  redis.call('ZREM', prefix .. ':due', run_id)
  local live = redis.call('HGET', key, 'live')
  local status = live and redis.call('HGET', prefix .. ':{' .. live .. '}', 'status')
  if status and not FINAL[status] then
    return nil
  end
  return promote(prefix, key)
end

-- Counts a new run in, and lists the session as the one that was used last.
local function join_session(prefix, session, user, now)
  local key = session_key(prefix, session)
  for _, each in ipairs(session_keys(key)) do
    redis.call('PERSIST', each)
  end
  redis.call('HSETNX', key, 'created', int(now))
  redis.call('HINCRBY', key, 'open', 1)
  redis.call('HINCRBY', key, 'runs', 1)
  redis.call('HSET', key, 'used', int(now))
  redis.call('ZADD', prefix .. ':sessions', int(now), session)
  if user then
    redis.call('HSET', key, 'user', user)
    redis.call('ZADD', prefix .. ':sessions:user:' .. user, int(now), session)
  end
end

-- Gives a session without an open run its time to live, and notes for the sweeper where it is listed.
local function expire_session(prefix, session, user, now, ttl)
  for _, each in ipairs(session_keys(session_key(prefix, session))) do
    redis.call('PEXPIRE', each, ttl)
  end
  redis.call('ZADD', prefix .. ':sessions:expiring', int(now + ttl), cjson.encode({session, user or ''}))
end

-- Takes a run that has ended out of its session, whose transcript gets the run's messages, and returns the id of the
-- run that has gone live by that, or nil. A run that never was live leaves no messages.
local function leave(prefix, session, run, run_id, now, ttl, remembers)
  local key = session_key(prefix, session)
  local state = redis.call('HMGET', key, 'live', 'user')
  local promoted
  if state[1] == run_id then
    if remembers then
      call_many('RPUSH', key .. ':messages', redis.call('LRANGE', run .. ':messages', 0, -1))
    end
    promoted = promote(prefix, key)
  else
    redis.call('LREM', key .. ':line', 1, run_id)
    redis.call('HDEL', run, 'behind')
  end
  redis.call('HSET', key, 'used', int(now))
  redis.call('ZADD', prefix .. ':sessions', int(now), session)
  if state[2] then
    redis.call('ZADD', prefix .. ':sessions:user:' .. state[2], int(now), session)
  end
  if redis.call('HINCRBY', key, 'open', -1) <= 0 then
    expire_session(prefix, session, state[2], now, ttl)
  end
  return promoted
end

-- Takes a run that had ended and goes on into its session again, as if it had never left. Returns the id of the run that
-- has gone live by that, mostly itself; nil when it is in line; false when a later run has started meanwhile.
local function rejoin(prefix, session, user, run, run_id, now)
  local key = session_key(prefix, session)
  local history = tonumber(redis.call('HGET', run, 'history'))
  local live = redis.call('HGET', key, 'live')
  local status = live and redis.call('HGET', prefix .. ':{' .. live .. '}', 'status')
  if history then
    local had, own = redis.call('LLEN', key .. ':messages'), redis.call('LLEN', run .. ':messages')
    if (status and not FINAL[status]) or (had ~= history and had ~= history + own) then
      return false
    end
    if had > history and history > 0 then
      redis.call('LTRIM', key .. ':messages', 0, history - 1)
    elseif had > history then
      redis.call('DEL', key .. ':messages')
    end
  end
  join_session(prefix, session, user, now)
  redis.call('HINCRBY', key, 'runs', -1)
  if not history then
    return enter(prefix, session, run, run_id)
  end
  redis.call('HSET', key, 'live', run_id)
  return run_id
end

-- Takes sessions whose time to live has passed out of the listings; returns how many entries it looked at.
local function prune_sessions(prefix, now, limit)
  local expiring = prefix .. ':sessions:expiring'
  local gone = redis.call('ZRANGEBYSCORE', expiring, '-inf', int(now), 'LIMIT', 0, limit)
  for _, member in ipairs(gone) do
    local session, user = unpack(cjson.decode(member))
    local left = redis.call('PTTL', session_key(prefix, session))
    if left >= 0 then
      -- Kept for longer since, or at its very last millisecond.
      redis.call('ZADD', expiring, int(now + left + 1), member)
    else
      if left == -2 then
        redis.call('ZREM', prefix .. ':sessions', session)
        redis.call('ZREM', prefix .. ':sessions:user:' .. user, session)
      end
      -- One that is in use is noted again when that use ends.
      redis.call('ZREM', expiring, member)
    end
  end
  return #gone
end
