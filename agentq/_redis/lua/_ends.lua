--[[ What runs that end have come to, counted: see _counts.lua. ]]
-- Anybody may name agents that there are not, in runs that are cancelled: beyond so many fields those count as one agent.
local MOST_COUNTS = 5000
local TOKENS = {'input_tokens', 'output_tokens', 'cached_input_tokens', 'cache_write_tokens', 'reasoning_tokens', 'cost_nanousd'}

-- What is stored of a usage; nothing where it cannot be read: such a run is set aside, and must not fail at this.
local function amounts(stored)
  local is_read, used = pcall(cjson.decode, stored or '{}')
  return is_read and type(used) == 'table' and used or {}
end

-- Counts a run that has ended: how, how long it took, and what it used since it was opened.
local function count_end(prefix, run, agent, status, now)
  local key = prefix .. ':counts'
  local of = redis.call('HMGET', run, 'created', 'usage', 'retried_usage')
  if redis.call('HEXISTS', key, status .. ':' .. agent) == 0 and redis.call('HLEN', key) > MOST_COUNTS then
    agent = ''
  end
  count(prefix, status, agent, 1)
  count(prefix, 'took_ms', agent, int(math.max(now - number(of[1]), 0)))
  local used, before = amounts(of[2]), amounts(of[3])
  for _, name in ipairs(TOKENS) do
    local more = (tonumber(used[name]) or 0) - (tonumber(before[name]) or 0)
    if more > 0 then
      count(prefix, name, agent, int(more))
    end
  end
  redis.call('PEXPIRE', key, COUNTS_TTL_MS)
end
