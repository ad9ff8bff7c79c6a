--[[
Write finished and started steps of the iteration in flight, together with events, values and files. Each may be none.

Builds keys of values, and the session's key of files, from the prefix.

KEYS[1]  run        run hash
KEYS[2]  journal    steps: `reply` or a call id → JSON
KEYS[3]  events     event stream

ARGV[1]  prefix     key prefix
ARGV[2]  fence      the lease's
ARGV[3]  owner      the lease's
ARGV[4]  batch      number of this batch within the claim; the same again returns the same
ARGV[5]  effect     1 when a record announces a call with an effect: refused after a cancel
ARGV[6]  phase      new phase, or empty
ARGV[7]  user_ttl_ms  time to live of a user's values
ARGV[8]  records*   names and values
ARGV[9]  items*     events
ARGV[10]  ranges*    numbers of the deltas that an event of this batch replaces, "first-last"
ARGV[11]  quotes*    texts of events that are in the records
ARGV[12]  changes*   scopes, names and values to keep, or empty ones to take away
ARGV[13]  blobs*      digests and contents of files that the records refer to
ARGV[14]  taken*      ids of signals that are taken

Returns {number of the last event, time}, or
  -1  RunNotFound       there is no such run
  -2  LeaseLost         another claim came since
  -3  CancelRequested   the run was cancelled and the call may not start
  -9  DataLost          Redis has lost what it had acknowledged
]]
-- @include clock
-- @include lists
-- @include quotes
-- @include emit
-- @include lease
-- @include fence
-- @include values
-- @include files

local run, fence = KEYS[1], ARGV[2]
local state = read(run, 'status', 'fence', 'owner', 'cancel', 'batch')
local code = refused(state, fence, ARGV[3])
if code then
  return code
end
local records, items, ranges, quotes, changes, blobs, taken = lists(8, 7)
fill(quotes, records, items)
local answer = already(state, fence, ARGV[4])
if answer then
  return answer
end
if has_gap(state, fence, ARGV[4]) then
  return -9
end
if ARGV[5] == '1' and state.cancel then
  for i = 1, #records, 2 do
    if redis.call('HGET', KEYS[2], records[i]) ~= records[i + 1] then
      return -3
    end
  end
end

local now = now_ms()
keep_files(ARGV[1], run, blobs)
call_many('HSET', KEYS[2], records)
change_values(ARGV[1], run, changes, ARGV[7])
for _, signal_id in ipairs(taken) do
  if redis.call('HGET', run .. ':signals', signal_id) ~= '' then
    redis.call('HINCRBY', run, 'kept', -1)
  end
  redis.call('HSET', run .. ':signals', signal_id, '')
end
if ARGV[6] ~= '' then
  redis.call('HSET', run, 'phase', ARGV[6])
end
fold(run, KEYS[3], ranges)
local last = emit(run, KEYS[3], items, now)
redis.call('HSET', run, 'batch', fence .. ':' .. ARGV[4] .. ' ' .. int(last) .. ' ' .. int(now))
return {last, now}
