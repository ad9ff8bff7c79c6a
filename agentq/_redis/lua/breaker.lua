--[[
Ask whether a tool may be called, or tell how a call went. So many failures in a row stop all calls for a while; after that,
one call at a time may try, until one succeeds.

KEYS[1]  breaker    hash: failures, until, trying, token

ARGV[1]  action     `ask`, `failed` or `succeeded`
ARGV[2]  failures   how many in a row stop the calls
ARGV[3]  pause_ms   for how long
ARGV[4]  window_ms  a failure is forgotten after so long without another
ARGV[5]  token      of the call; the same again has no effect

Returns {until when not, by this clock; 0 for now}.
]]
-- @include clock
-- @include lease

local fields = redis.call('HMGET', KEYS[1], 'failures', 'until', 'trying', 'token', 'by')
local failed, until_ms, trying = number(fields[1]), number(fields[2]), number(fields[3])
local now, most, pause = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3])
if ARGV[1] == 'ask' then
  if until_ms > now then
    return {until_ms}
  elseif failed < most then
    return {0}
  elseif trying > now and fields[5] ~= ARGV[5] then
    return {trying}
  end
  redis.call('HSET', KEYS[1], 'trying', int(now + pause), 'by', ARGV[5])
  return {0}
end
if ARGV[1] == 'succeeded' then
  redis.call('DEL', KEYS[1])
elseif fields[4] ~= ARGV[5] then
  local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
  redis.call('HSET', KEYS[1], 'token', ARGV[5], 'trying', '0', 'until', failures >= most and int(now + pause) or '0')
  redis.call('PEXPIRE', KEYS[1], pause + tonumber(ARGV[4]))
end
return {0}
