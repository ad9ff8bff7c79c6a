--[[
The outbox: a change of a status leaves a message for each webhook that wants to know of it, in the script that makes the change.
<prefix>:webhooks holds what workers have made known of webhooks. A message is the hash <prefix>:webhooks:message:NAME:ID, and stands
in <prefix>:webhooks:due:NAME by its next attempt. Its id follows from the claim, for one claim changes the status once.
]]
-- What was not delivered by then goes; as in webhooks.py.
local WEBHOOK_MS = 7 * 86400000

local function contains(words, word)
  for _, each in ipairs(words) do
    if each == word then
      return true
    end
  end
  return false
end

-- What cannot be read, or a newer version wrote, must not keep a run from its end.
local function wants(registration, event, agent)
  local is_read, wish = pcall(cjson.decode, registration)
  if not is_read or type(wish.events) ~= 'table' or type(wish.agents) ~= 'table' then
    return false
  end
  return contains(wish.events, event) and (#wish.agents == 0 or contains(wish.agents, agent))
end

-- Tells of the status that a run has got. `asks` is what it waits for, JSON, or nil.
local function tell_webhooks(prefix, run, run_id, status, now, asks)
  local known = redis.call('HGETALL', prefix .. ':webhooks')
  if #known == 0 then
    return
  end
  local event = 'run.' .. status
  local of = redis.call('HMGET', run, 'fence', 'seq', 'agent', 'session', 'user', 'parent')
  local id = 'msg_' .. run_id .. '_' .. (of[1] or '0')
  local fields = {'run', run_id, 'type', event, 'at', int(now), 'seq', of[2] or '0', 'agent', of[3] or ''}
  for i, name in ipairs({'session', 'user', 'parent'}) do
    if of[i + 3] then
      fields[#fields + 1], fields[#fields + 2] = name, of[i + 3]
    end
  end
  if asks then
    fields[#fields + 1], fields[#fields + 2] = 'asks', asks
  end
  for i = 1, #known, 2 do
    if wants(known[i + 1], event, of[3]) then
      local message, due = prefix .. ':webhooks:message:' .. known[i] .. ':' .. id, prefix .. ':webhooks:due:' .. known[i]
      redis.call('HSET', message, unpack(fields))
      redis.call('PEXPIRE', message, WEBHOOK_MS)
      redis.call('ZADD', due, int(now), id)
      redis.call('PEXPIRE', due, WEBHOOK_MS)
    end
  end
end

-- Tells of a run that waits for people, if it asks something that was not told before: a run that looks at the clock
-- meanwhile rests again with the same questions.
local function tell_of_questions(prefix, run, run_id, now, asks)
  if redis.call('EXISTS', prefix .. ':webhooks') == 0 then
    return
  end
  local told, ids, is_new = {}, {}, false
  for id in string.gmatch(redis.call('HGET', run, 'asked') or '', '%S+') do
    told[id] = true
  end
  for i, ask in ipairs(cjson.decode(asks)) do
    ids[i] = ask.call_id .. '#' .. int(ask.number)
    is_new = is_new or not told[ids[i]]
  end
  if is_new then
    redis.call('HSET', run, 'asked', table.concat(ids, ' '))
    tell_webhooks(prefix, run, run_id, 'waiting', now, asks)
  end
end
