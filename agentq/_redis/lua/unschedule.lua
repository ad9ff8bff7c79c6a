--[[
Forget a schedule. Its runs stay.

KEYS[1]  schedule    schedule hash
KEYS[2]  schedules   names by next firing

ARGV[1]  name        its name

Returns {1}.
]]
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return {1}
