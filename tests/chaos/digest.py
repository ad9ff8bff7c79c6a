"""All that a Redis holds, as one number."""

from __future__ import annotations

# The whole data set but for times to live, as one digest. Made by the server: it would be much to send.
DIGEST = """
local function content(name)
  local kind = redis.call('TYPE', name).ok
  if kind == 'set' then
    local members = redis.call('SMEMBERS', name)
    table.sort(members)
    return table.concat(members, ' ')
  elseif kind ~= 'hash' then
    return redis.call('DUMP', name)
  end
  -- Their order changes while a hash table grows, also by reading.
  local fields, flat = {}, redis.call('HGETALL', name)
  for i = 1, #flat, 2 do
    fields[#fields + 1] = flat[i] .. ' ' .. flat[i + 1]
  end
  table.sort(fields)
  return table.concat(fields, ' ')
end
local names, digest = redis.call('KEYS', '*'), ''
table.sort(names)
for _, name in ipairs(names) do
  digest = redis.sha1hex(digest .. name .. content(name))
end
return digest
"""
