--[[
Put a part of a run or a session that is being imported aside, where nobody looks for it yet. What is never restored
goes when its time has passed.

KEYS[1]  messages    staged transcript
KEYS[2]  events      staged event stream
KEYS[3]  files       staged files: digest → content

ARGV[1]  ttl_ms      time to live of all that is staged, anew with each part
ARGV[2]  contents*   messages, JSON
ARGV[3]  entries*    events: id, field, JSON and time of each
ARGV[4]  blobs*      digests and contents of files

Returns {1}.
]]
-- @include lists

local contents, entries, blobs = lists(2, 3)
call_many('RPUSH', KEYS[1], contents)
for i = 1, #entries, 4 do
  redis.call('XADD', KEYS[2], entries[i], entries[i + 1], entries[i + 2], 't', entries[i + 3])
end
call_many('HSET', KEYS[3], blobs)
for i = 1, 3 do
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
return {1}
