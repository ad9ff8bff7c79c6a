--[[
What is paused as a whole: the hash <prefix>:paused holds, by scope (`all`, `agent:NAME`, `queue:NAME`), who paused it and why,
JSON. Runs that were kept from going on by that stand in <prefix>:parked:SCOPE, and have the scope in their field `parked`.
Where a scope was resumed and its runs are not all woken yet, its value is empty.
]]
local function all_pauses(prefix)
  local flat, pauses = redis.call('HGETALL', prefix .. ':paused'), {}
  for i = 1, #flat, 2 do
    pauses[flat[i]] = flat[i + 1]
  end
  return pauses
end

-- Whether the scope is paused now.
local function is_paused(pauses, scope)
  return pauses[scope] and pauses[scope] ~= ''
end

-- The scope by which a run is kept from going on, or nil.
local function scope_of(pauses, agent, queue)
  for _, scope in ipairs({'all', 'agent:' .. (agent or ''), 'queue:' .. (queue or '')}) do
    if is_paused(pauses, scope) then
      return scope
    end
  end
end

-- Sets a run aside until its scope is resumed.
local function park(prefix, run, run_id, scope, now)
  redis.call('ZREM', prefix .. ':due', run_id)
  redis.call('ZADD', prefix .. ':parked:' .. scope, 'NX', int(now), run_id)
  redis.call('HSET', run, 'parked', scope, 'woken', '0')
end

-- The numbers of the queues that are paused, from 0 on, and whether the n-th is one of them.
local function kept_queues(pauses, queues, count)
  local numbers, is_kept = {}, {}
  for i = 1, count do
    if is_paused(pauses, 'all') or is_paused(pauses, 'queue:' .. (queues[i] or '')) then
      numbers[#numbers + 1], is_kept[i] = i - 1, true
    end
  end
  return numbers, is_kept
end
