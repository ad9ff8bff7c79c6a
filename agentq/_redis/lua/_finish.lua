--[[ The end of a run: times to live, a note for the sweeper of the listings to prune then, the next run of the session. ]]

-- Every script that makes a run final calls this. Returns the id of the run of its session that may go on now, or nil.
local function finish(prefix, run, run_id, now, ttl, session_ttl, remembers)
  local of = redis.call('HMGET', run, 'status', 'agent', 'session', 'user', 'key')
  redis.call('HSET', run, 'finished', int(now))
  redis.call('ZREM', prefix .. ':due', run_id)
  redis.call('ZREM', prefix .. ':unserved:' .. of[2], run_id)
  for _, key in ipairs({run, run .. ':messages', run .. ':journal', run .. ':events', run .. ':files'}) do
    redis.call('PEXPIRE', key, ttl)
  end
  if of[5] then
    redis.call('PEXPIRE', prefix .. ':key:' .. of[5], ttl)
  end
  redis.call('ZADD', prefix .. ':expiring', int(now + ttl),
    cjson.encode({run_id, of[1], of[2], of[3] or '', of[4] or ''}))
  return of[3] and leave(prefix, of[3], run, run_id, now, session_ttl, remembers) or nil
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
