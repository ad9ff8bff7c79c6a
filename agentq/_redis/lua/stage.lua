--[[
Put a part of a run or a session that is being imported aside, where nobody looks for it yet. What is never restored
goes when its time has passed.

KEYS[1]  messages    staged transcript
KEYS[2]  events      staged event stream
KEYS[3]  files       staged files: digest → content

ARGV[1]  counts      messages, events and files that are staged after this part: "2 7 0"; the same again adds nothing
ARGV[2]  ttl_ms      time to live of all that is staged, anew with each part
ARGV[3]  contents*   messages, JSON
ARGV[4]  entries*    events: id, field, JSON and time of each
ARGV[5]  blobs*      digests and contents of files

Returns {1}.
]]
-- @include lists

local contents, entries, blobs = lists(3, 3)
local counts = redis.call('LLEN', KEYS[1]) .. ' ' .. redis.call('XLEN', KEYS[2]) .. ' ' .. redis.call('HLEN', KEYS[3])
if counts == ARGV[1] then
  return {1}
end
call_many('RPUSH', KEYS[1], contents)
for i = 1, #entries, 4 do
  redis.call('XADD', KEYS[2], entries[i], entries[i + 1], entries[i + 2], 't', entries[i + 3])
end
call_many('HSET', KEYS[3], blobs)
for i = 1, 3 do
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
return {1}
