--[[
Write finished and started steps of the iteration in flight, together with events. Either may be none.

KEYS[1]  run        run hash
KEYS[2]  journal    steps: `reply` or a call id → JSON
KEYS[3]  events     event stream

ARGV[1]  fence      the lease's
ARGV[2]  owner      the lease's
ARGV[3]  batch      number of this batch within the claim; the same again returns the same
ARGV[4]  effect     1 when a record announces a call with an effect: refused after a cancel
ARGV[5]  phase      new phase, or empty
ARGV[6]  records*   names and values
ARGV[7]  items*     events
ARGV[8]  ranges*    numbers of the deltas that an event of this batch replaces, "first-last"
ARGV[9]  quotes*    texts of events that are in the records

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

local run, fence = KEYS[1], ARGV[1]
local state = read(run, 'status', 'fence', 'owner', 'cancel', 'batch')
local code = refused(state, fence, ARGV[2])
if code then
  return code
end
local records, items, ranges, quotes = lists(6, 4)
fill(quotes, records, items)
local answer = already(state, fence, ARGV[3])
if answer then
  return answer
end
if has_gap(state, fence, ARGV[3]) then
  return -9
end
if ARGV[4] == '1' and state.cancel then
  for i = 1, #records, 2 do
    if redis.call('HGET', KEYS[2], records[i]) ~= records[i + 1] then
      return -3
    end
  end
end

local now = now_ms()
call_many('HSET', KEYS[2], records)
if ARGV[5] ~= '' then
  redis.call('HSET', run, 'phase', ARGV[5])
end
fold(run, KEYS[3], ranges)
local last = emit(run, KEYS[3], items, now)
redis.call('HSET', run, 'batch', fence .. ':' .. ARGV[3] .. ' ' .. int(last) .. ' ' .. int(now))
return {last, now}
