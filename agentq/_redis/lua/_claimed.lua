--[[ What a worker is told of a run that it has claimed. ]]
-- A worker that committed the run last keeps its transcript, so only what came since is sent.
local function read_claim(prefix, owner, run_id)
  local run = prefix .. ':{' .. run_id .. '}'
  local seen = redis.call('HMGET', run, 'writer', 'length', 'session', 'history')
  local first, history = seen[1] == owner and tonumber(seen[2]) or 0, {}
  if first == 0 and number(seen[4]) > 0 then
    history = redis.call('LRANGE', session_key(prefix, seen[3]) .. ':messages', 0, number(seen[4]) - 1)
  end
  local more = redis.call('LLEN', run .. ':messages') - first
  return {
    run_id, redis.call('HGETALL', run), redis.call('HGETALL', run .. ':journal'),
    -- Counted from the end: Redis walks there from the nearer side only in newer versions.
    more > 0 and redis.call('LRANGE', run .. ':messages', -more, -1) or {}, first, history,
  }
end
