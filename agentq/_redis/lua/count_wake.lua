--[[
Count a wake-up that somebody else writes. A run that is gone stays gone.

KEYS[1]  run   run hash

Returns {number of the wake-up}, or
  -1  RunNotFound   there is no such run
]]
if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
return {redis.call('HINCRBY', KEYS[1], 'wake', 1)}
