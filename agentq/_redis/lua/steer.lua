--[[
Put a message of the user into a run that goes on. It waits in the inbox until a claim appends it to the transcript: never
between a reply and the results of its calls.

KEYS[1]  run        run hash
KEYS[2]  inbox      messages that the run has not seen, JSON
KEYS[3]  events     event stream
KEYS[4]  files      files of the run, or of its session: digest → content

ARGV[1]  token      of the message; the same again has no effect
ARGV[2]  content    the message, JSON
ARGV[3]  items*     events
ARGV[4]  blobs*     digests and contents of files

Returns {status}, or
  -1  RunNotFound          there is no such run
  -2  RunAlreadyFinished   it has ended
  -3  CancelRequested      it was cancelled, and is about to end
  -4  InboxFull            too many messages wait for it
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease

-- So many messages may wait for a run.
local ROOM = 100
-- So many of the last tokens are remembered.
local TOKENS = 20

local run = KEYS[1]
local state = read(run, 'status', 'cancel', 'steered')
if not state.status then
  return -1
end
local tokens = {}
for token in string.gmatch(state.steered or '', '%S+') do
  if token == ARGV[1] then
    return {state.status}
  end
  tokens[#tokens + 1] = token
end
if FINAL[state.status] then
  return -2
elseif state.cancel then
  return -3
elseif redis.call('LLEN', KEYS[2]) >= ROOM then
  return -4
end
local items, blobs = lists(3, 2)
local now = now_ms()
tokens[#tokens + 1] = ARGV[1]
redis.call('RPUSH', KEYS[2], ARGV[2])
for i = 1, #blobs, 2 do
  redis.call('HSETNX', KEYS[4], blobs[i], blobs[i + 1])
end
redis.call('HSET', run, 'inbox', redis.call('LLEN', KEYS[2]), 'updated', int(now), 'steered',
  table.concat(tokens, ' ', math.max(#tokens - TOKENS + 1, 1)))
redis.call('HINCRBY', run, 'signals', 1)
emit(run, KEYS[3], items, now)
return {state.status}
