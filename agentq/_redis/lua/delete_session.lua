--[[
Delete a session whose runs have all ended: what they said, files, values, and the runs themselves with those below them.

Builds keys of the session, of its runs and of listings from the prefix. It deletes the session with a part of the runs: to be
called again until none is left. By then there may be a new session of that name, which is left alone.

KEYS[1]  session    session hash

ARGV[1]  prefix     key prefix
ARGV[2]  name       session id
ARGV[3]  upto       the newest run to delete; later ones belong to a session of that name that is new
ARGV[4]  limit      how many runs to delete at most
ARGV[5]  part       how many parts were deleted before

Returns 1 when runs are left, else 0, or
  -1  SessionBusy   a run of it has not ended
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease
-- @include session
-- @include finish

local prefix, session, limit, is_first = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5] == '0'
local state = read(KEYS[1], 'open', 'user')
if is_first and number(state.open) > 0 then
  return -1
end

local function delete_run(run_id)
  local run = prefix .. ':{' .. run_id .. '}'
  local of = read(run, 'status', 'agent', 'user')
  if of.status and not FINAL[of.status] then
    return
  end
  for _, child_id in ipairs(redis.call('LRANGE', run .. ':children', 0, -1)) do
    delete_run(child_id)
  end
  if of.status then
    local keys, listed = belongings(prefix, run, run_id)
    redis.call('DEL', unpack(keys))
    redis.call('ZREM', prefix .. ':expiring', listed)
    redis.call('ZREM', prefix .. ':runs:status:' .. of.status, run_id)
    redis.call('ZREM', prefix .. ':runs:agent:' .. of.agent, run_id)
    redis.call('ZREM', prefix .. ':runs:user:' .. (of.user or ''), run_id)
  end
  redis.call('ZREM', prefix .. ':runs', run_id)
end

if is_first then
  for _, key in ipairs(session_keys(KEYS[1])) do
    redis.call('DEL', key)
  end
  redis.call('DEL', KEYS[1] .. ':line')
  redis.call('ZREM', prefix .. ':sessions', session)
  redis.call('ZREM', prefix .. ':sessions:user:' .. (state.user or ''), session)
  redis.call('ZREM', prefix .. ':sessions:expiring', cjson.encode({session, state.user or ''}))
end
local listing = prefix .. ':runs:session:' .. session
local runs = ARGV[3] == '' and {} or redis.call('ZRANGEBYLEX', listing, '-', '[' .. ARGV[3], 'LIMIT', 0, limit + 1)
for i = 1, math.min(#runs, limit) do
  delete_run(runs[i])
  redis.call('ZREM', listing, runs[i])
end
return #runs > limit and 1 or 0
