--[[
End an iteration: append what is new, empty the journal (unless nothing is appended), set the status, release the lease,
wake what comes next: this run, or when it has ended the next one of its session.

Builds listing keys, and keys of the session, its next run and the runs above and below, from the prefix. When signals came
that the worker has not seen, the work is kept, but the run stays queued and is woken instead of ending: the closing events
are left out.

KEYS[1]  run        run hash
KEYS[2]  messages   transcript
KEYS[3]  journal    steps of this iteration
KEYS[4]  events     event stream

ARGV[1]   prefix       key prefix
ARGV[2]   run_id       run id
ARGV[3]   fence        the lease's; the same again returns the first outcome
ARGV[4]   owner        the lease's
ARGV[5]   status       what the run becomes
ARGV[6]   signals      how many signals the worker has seen
ARGV[7]   delay_ms     how long the next iteration is put off
ARGV[8]   ttl_ms       time to live of a run that ends
ARGV[9]   session_ttl_ms  time to live of a session whose last run ends
ARGV[10]   remembers    1 when the session gets the messages of a run that ends
ARGV[11]  keeps        1 when the worker has the transcript at hand: its next claim gets only what is new
ARGV[12]  wakeup       template of the wake-up, or empty
ARGV[13]  fields*      names and values for the run hash
ARGV[14]  contents*    new messages, JSON; `=` and the name of a step for one that is in the journal
ARGV[15]  items*       events
ARGV[16]  closing*     events that hold only if the run gets this status
ARGV[17]  ranges*      numbers of the deltas that an event of this batch replaces, "first-last"
ARGV[18]  quotes*      texts of events, and then of closing events, that are in the contents
ARGV[19]  changes*     scopes, names and values to keep, or empty ones to take away
ARGV[20]  spent*       what is added to what runs use together: see _spend.lua; empty where it is counted nowhere

Returns {status, number of the last event, woken, run that comes next, or empty, run that waited and is to be woken, or
empty}, or
  -1  RunNotFound         there is no such run
  -2  LeaseLost           another claim came since
  -3  IllegalTransition   a running run cannot get this status
  -9  DataLost            Redis has lost what it had acknowledged
]]
-- @include clock
-- @include lists
-- @include quotes
-- @include emit
-- @include places
-- @include status
-- @include push
-- @include tenants
-- @include wake
-- @include lease
-- @include fence
-- @include values
-- @include spend
-- @include counts

local prefix, run, run_id, fence, status = ARGV[1], KEYS[1], ARGV[2], ARGV[3], ARGV[5]
local state = read(run, 'status', 'fence', 'committed', 'outcome', 'owner', 'signals', 'queue', 'iteration', 'progressed',
  'inbox', 'forgets', 'recoveries', 'agent')
if state.committed == fence then
  local done, seq, woken, next_id, parent_id = string.match(state.outcome, '^(%l+) (%d+) (%d) (%w*) ?(%w*)$')
  return {done, tonumber(seq), tonumber(woken), next_id, parent_id}
end
local code = refused(state, fence, ARGV[4])
if code then
  return code
end
if not TRANSITIONS['running'][status] then
  return -3
end
local fields, contents, items, closing, ranges, quotes, changes, spent = lists(13, 8)
for i, content in ipairs(contents) do
  if string.sub(content, 1, 1) == '=' then
    contents[i] = redis.call('HGET', KEYS[3], string.sub(content, 2))
    if not contents[i] then
      return -9
    end
  end
end
fill(quotes, contents, items, closing)
local delay = tonumber(ARGV[7])
-- An answer does not end a run that has not seen what was sent into it.
local is_unheard = status == 'completed' and number(state.inbox) > 0
if tonumber(state.signals or '0') > tonumber(ARGV[6]) or is_unheard then
  status, closing, delay = 'queued', {}, 0
end

local now = now_ms()
call_many('RPUSH', KEYS[2], contents)
change_values(prefix, run, changes, ARGV[9])
spend(prefix, spent, now)
if #contents > 0 then
  redis.call('DEL', KEYS[3])
end
fold(run, KEYS[4], ranges)
for _, item in ipairs(closing) do
  items[#items + 1] = item
end
local last = emit(run, KEYS[4], items, now)
redis.call('HDEL', run, 'open')
-- A run that was to be set aside, and was signalled, has not shown that it lets its worker live.
local recoveries = status == 'queued' and FINAL[ARGV[5]] and #contents == 0 and state.recoveries or '0'
local is_progress = fields[1] == 'iteration' and number(fields[2]) > number(state.iteration)
local progressed = is_progress and int(now) or state.progressed
if is_progress then
  count(prefix, 'iterations', state.agent, 1)
end
redis.call('HSET', run, 'committed', fence, 'writer', ARGV[11] == '1' and state.owner or '', 'length', redis.call('LLEN', KEYS[2]),
  'owner', '', 'lease_until', '0', 'phase', '', 'recoveries', recoveries, 'not_before', '0', 'updated', int(now), 'progressed',
  progressed or int(now), unpack(fields))
status = set_status(prefix, run, run_id, 'running', status)
local woken, next_id, parent_id = 0, '', ''
if status == 'paused' then
  schedule(prefix, ARGV[12], run, run_id, state.queue, now, delay)
elseif status == 'queued' then
  woken, next_id = schedule(prefix, ARGV[12], run, run_id, state.queue, now, delay), run_id
elseif FINAL[status] then
  -- @include session
  -- @include webhooks
  -- @include finish
  -- @include cancel
  -- @include ends
  if status == 'cancelled' then
    -- Perhaps no worker ever comes to take it. The wake-ups of a run that ended otherwise have been taken, or will be.
    withdraw(ARGV[12], run, run_id, state.queue)
  end
  count_end(prefix, run, state.agent, status, now)
  next_id = finish(prefix, run, run_id, now, tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1' and not state.forgets) or ''
  if next_id ~= '' then
    local promoted = prefix .. ':{' .. next_id .. '}'
    woken = schedule(prefix, ARGV[12], promoted, next_id, redis.call('HGET', promoted, 'queue'), now, 0)
  end
  cancel_children(prefix, run, 'its parent has ended', now)
  local waited = tell_parent(prefix, run)
  if waited then
    local parent = prefix .. ':{' .. waited .. '}'
    -- It is under way: a long queue must not hold it up.
    if schedule(prefix, ARGV[12], parent, waited, redis.call('HGET', parent, 'queue'), now, 0, true) == 0 then
      parent_id = waited
    end
  end
end
wake_admitted(prefix, ARGV[12], now)
redis.call('HSET', run, 'outcome', status .. ' ' .. int(last) .. ' ' .. woken .. ' ' .. next_id .. ' ' .. parent_id)
return {status, last, woken, next_id, parent_id}
