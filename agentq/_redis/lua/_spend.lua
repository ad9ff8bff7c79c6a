--[[
What runs use together: hashes <prefix>:spent:NAME and, in a window of time, <prefix>:spent:NAME:<number>. `name` says the
window, whose runs, and which; the number counts windows since 1970.
]]
-- `window` is its length in milliseconds, 0 for none; `at` its number, or nil for the one that it is now.
local function meter_key(prefix, name, window, at, now)
  local key = prefix .. ':spent:' .. name
  return window > 0 and key .. ':' .. int(at or math.floor(now / window)) or key
end

-- `spent` holds tokens, nanodollars and iterations, and then for each meter its name, the window's length and how long the count
-- is kept.
local function spend(prefix, spent, now)
  for i = 4, #spent, 3 do
    local key = meter_key(prefix, spent[i], tonumber(spent[i + 1]), nil, now)
    redis.call('HINCRBY', key, 'tokens', spent[1])
    redis.call('HINCRBY', key, 'cost', spent[2])
    redis.call('HINCRBY', key, 'iterations', spent[3])
    redis.call('PEXPIRE', key, spent[i + 2])
  end
end
