--[[ Redis's clock, which alone decides about leases. ]]
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A plain tostring() would write large numbers as 1.7e+12.
local function int(number)
  return string.format('%.0f', number)
end
