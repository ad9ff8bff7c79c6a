--[[ The end of a run: times to live, a note for the sweeper of the listings to prune then, the next run of the session. ]]
-- For a session whose last run was deleted by hand: nobody is there who knows the settings.
local SESSION_TTL_MS = 30 * 86400000

-- All keys of a run that has some, and where the sweeper finds in which listings it is.
local function belongings(prefix, run, run_id)
  local of = redis.call('HMGET', run, 'status', 'agent', 'session', 'user', 'key')
  local keys = {run, run .. ':messages', run .. ':journal', run .. ':events', run .. ':files', run .. ':values', run .. ':children',
    run .. ':signals', run .. ':inbox'}
  if of[5] then
    keys[#keys + 1] = prefix .. ':key:' .. of[5]
  end
  return keys, cjson.encode({run_id, of[1], of[2], of[3] or '', of[4] or ''})
end

-- Gives a run that has ended its time to live, and notes for the sweeper where it is listed.
local function expire(prefix, run, run_id, now, ttl)
  local keys, listed = belongings(prefix, run, run_id)
  for _, key in ipairs(keys) do
    redis.call('PEXPIRE', key, ttl)
  end
  redis.call('ZADD', prefix .. ':expiring', int(now + ttl), listed)
end

-- Takes the time to live from a run that had ended and goes on.
local function keep(prefix, run, run_id)
  local keys, listed = belongings(prefix, run, run_id)
  for _, key in ipairs(keys) do
    redis.call('PERSIST', key)
  end
  redis.call('ZREM', prefix .. ':expiring', listed)
end

-- Every script that makes a run final calls this. Returns the id of the run of its session that may go on now, or nil.
local function finish(prefix, run, run_id, now, ttl, session_ttl, remembers)
  local of = redis.call('HMGET', run, 'agent', 'session', 'parked', 'status')
  redis.call('HSET', run, 'finished', int(now))
  tell_webhooks(prefix, run, run_id, of[4], now)
  redis.call('ZREM', prefix .. ':due', run_id)
  redis.call('ZREM', prefix .. ':unserved:' .. of[1], run_id)
  if of[3] then
    redis.call('ZREM', prefix .. ':parked:' .. of[3], run_id)
  end
  expire(prefix, run, run_id, now, ttl)
  return of[2] and leave(prefix, of[2], run, run_id, now, session_ttl, remembers) or nil
end

-- Tells the run that started this one that it has ended. Returns the id of that run if it waited for this, and is queued now.
local function tell_parent(prefix, run)
  local parent_id = redis.call('HGET', run, 'parent')
  local parent = parent_id and prefix .. ':{' .. parent_id .. '}'
  local state = parent and redis.call('HMGET', parent, 'status', 'question') or {}
  if not state[1] or FINAL[state[1]] then
    return nil
  end
  redis.call('HINCRBY', parent, 'signals', 1)
  if state[1] ~= 'waiting' or not waits_for_child(state[2]) then
    return nil
  end
  requeue(prefix, parent, parent_id)
  return parent_id
end

-- Clears away what is left of a run whose hash somebody deleted while it was alive: nothing else would ever do so. Its first
-- event tells where it is listed. Returns the run of its session that may go on now, or nil.
local function forget(prefix, run, run_id, now)
  local first = redis.call('XRANGE', run .. ':events', '-', '+', 'COUNT', 1)[1]
  local queued = first and first[2][1] == 'e' and cjson.decode(first[2][2]) or {}
  redis.call('DEL', run .. ':messages', run .. ':journal', run .. ':events', run .. ':files', run .. ':values', run .. ':children',
    run .. ':signals', run .. ':inbox')
  redis.call('ZREM', prefix .. ':runs', run_id)
  redis.call('ZREM', prefix .. ':runs:asks:people', run_id)
  for status in pairs(TRANSITIONS) do
    redis.call('ZREM', prefix .. ':runs:status:' .. status, run_id)
  end
  if queued.agent then
    redis.call('ZREM', prefix .. ':runs:agent:' .. queued.agent, run_id)
  end
  local session = queued.session_id
  if not session or redis.call('EXISTS', session_key(prefix, session)) == 0 then
    return nil
  end
  redis.call('ZREM', prefix .. ':runs:session:' .. session, run_id)
  local user = redis.call('HGET', session_key(prefix, session), 'user')
  if user then
    redis.call('ZREM', prefix .. ':runs:user:' .. user, run_id)
  end
  return leave(prefix, session, run, run_id, now, SESSION_TTL_MS, false)
end

-- Takes runs whose time to live has passed out of the listings; returns how many.
local function prune(prefix, now, limit)
  local gone = redis.call('ZRANGEBYSCORE', prefix .. ':expiring', '-inf', int(now), 'LIMIT', 0, limit)
  for _, member in ipairs(gone) do
    local run_id, status, agent, session, user = unpack(cjson.decode(member))
    redis.call('ZREM', prefix .. ':runs', run_id)
    redis.call('ZREM', prefix .. ':runs:status:' .. status, run_id)
    redis.call('ZREM', prefix .. ':runs:agent:' .. agent, run_id)
    redis.call('ZREM', prefix .. ':runs:session:' .. session, run_id)
    redis.call('ZREM', prefix .. ':runs:user:' .. user, run_id)
    redis.call('ZREM', prefix .. ':expiring', member)
  end
  return #gone
end
