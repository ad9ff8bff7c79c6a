--[[
Make a session of an archive, whose parts are staged, a session of this Redis, all at once. It has no open run.

A session that is there already is left as it is. Builds listing keys, and the key of values, from the prefix.

KEYS[1]  session           session hash
KEYS[2]  messages          its transcript
KEYS[3]  files             its files
KEYS[4]  staged_messages   the same two, staged
KEYS[5]  staged_files      staged files

ARGV[1]  prefix      key prefix
ARGV[2]  session_id  session id
ARGV[3]  user        user id, or empty
ARGV[4]  used        when it was used last
ARGV[5]  ttl_ms      time to live
ARGV[6]  counts      messages and files that must be staged: "2 0"
ARGV[7]  token       of this import; the same again answers as before
ARGV[8]  fields*     names and values of the session hash
ARGV[9]  values*     names and values that tools keep for it

Returns {restored}: 1, 0 when it is there already, 2 when what was staged is gone.
]]
-- @include clock
-- @include lists
-- @include places
-- @include status
-- @include session

local prefix, key, session, user = ARGV[1], KEYS[1], ARGV[2], ARGV[3]
local fields, values = lists(8, 2)
if redis.call('EXISTS', key) == 1 then
  return {redis.call('HGET', key, 'restored') == ARGV[7] and 1 or 0}
end
if redis.call('LLEN', KEYS[4]) .. ' ' .. redis.call('HLEN', KEYS[5]) ~= ARGV[6] then
  return {2}
end

-- What a session that was deleted by hand may have left.
redis.call('DEL', KEYS[2], KEYS[3], key .. ':line', key .. ':values')
for i = 4, 5 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RENAME', KEYS[i], KEYS[i - 2])
  end
end
call_many('HSET', key .. ':values', values)
redis.call('HSET', key, 'restored', ARGV[7], unpack(fields))
redis.call('ZADD', prefix .. ':sessions', ARGV[4], session)
if user ~= '' then
  redis.call('ZADD', prefix .. ':sessions:user:' .. user, ARGV[4], session)
end
expire_session(prefix, session, user, now_ms(), tonumber(ARGV[5]))
return {1}
