--[[
Values that tools keep beside the transcript, by name: hashes <run>:values, <prefix>:session:{S}:values and
<prefix>:user:{U}:values. `changes` holds scope, name and value in turn; an empty value takes the name away. Those of a user live
for `ttl` after the last change. A scope that the run does not have is left out: whoever asks for it checks that.
]]
local function change_values(prefix, run, changes, ttl)
  if #changes == 0 then
    return
  end
  local of = redis.call('HMGET', run, 'session', 'user')
  local keys = {
    run = run .. ':values',
    session = of[1] and prefix .. ':session:{' .. of[1] .. '}:values',
    user = of[2] and prefix .. ':user:{' .. of[2] .. '}:values',
  }
  for i = 1, #changes, 3 do
    local scope, name, value = changes[i], changes[i + 1], changes[i + 2]
    local key = keys[scope]
    if key and value == '' then
      redis.call('HDEL', key, name)
    elseif key then
      redis.call('HSET', key, name, value)
    end
    if key and scope == 'user' then
      redis.call('PEXPIRE', key, ttl)
    end
  end
end
