--[[ What runs have come to, of all agents, counted with the write that makes it so: the hash <prefix>:counts, NAME:AGENT. ]]
-- After the last run that ended.
local COUNTS_TTL_MS = 30 * 86400000

local function count(prefix, name, agent, more)
  local key = prefix .. ':counts'
  if redis.call('HINCRBY', key, name .. ':' .. agent, more) == tonumber(more) then
    redis.call('PEXPIRE', key, COUNTS_TTL_MS)
  end
end
