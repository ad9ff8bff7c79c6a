--[[
Do a write of a tool's own, once: the tool's script runs behind our fence, and its record is written in the same go.

KEYS[1]    run        run hash
KEYS[2]    journal    steps of the iteration in flight
KEYS[3..]  keys       keys of the tool's script

ARGV[1]  fence      the lease's
ARGV[2]  owner      the lease's
ARGV[3]  name       name of the record; the same again returns the first answer
ARGV[4]  digest     of the tool's script
ARGV[5]  args*      arguments of the tool's script

Returns {what the script returned}, or
  -1  RunNotFound    there is no such run
  -2  LeaseLost      another claim came since
  -3  StepDiverged   another script was recorded under this name
  -9  DataLost       Redis has lost what it had acknowledged
]]
-- @include lists
-- @include lease
-- @include fence

-- In a function of its own, whose names hide ours.
local function effect(KEYS, ARGV)
-- @include effect
end

local fence, name, digest = ARGV[1], ARGV[3], ARGV[4]
local code = refused(read(KEYS[1], 'status', 'fence', 'owner'), fence, ARGV[2])
if code then
  return code
end
local record = redis.call('HGET', KEYS[2], name)
if record then
  local recorded, packed = string.match(record, '^(%x+) (.*)$')
  if recorded ~= digest then
    return -3
  end
  return {cmsgpack.unpack(packed)}
end
local answer = effect({unpack(KEYS, 3)}, lists(5, 1))
if type(answer) == 'table' and answer.err then
  return answer
end
local packed = cmsgpack.pack(answer)
redis.call('HSET', KEYS[2], name, digest .. ' ' .. packed)
return {cmsgpack.unpack(packed)}
