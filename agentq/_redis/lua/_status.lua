--[[ The transition table of runs.py (a test compares the two), and moving a run between the listings. ]]
local TRANSITIONS = {
  queued = {running = true, paused = true},
  running = {queued = true, waiting = true, paused = true, completed = true, failed = true, cancelled = true},
  waiting = {queued = true, paused = true},
  paused = {queued = true},
  completed = {},
  failed = {queued = true},
  cancelled = {queued = true},
}
local FINAL = {completed = true, failed = true, cancelled = true}

-- Gives a run its status and returns it: one that somebody paused rests in place of being queued.
local function set_status(prefix, run, run_id, from, to)
  if to == 'queued' and redis.call('HEXISTS', run, 'pause') == 1 then
    to = 'paused'
  end
  if (from == 'queued' or from == 'running') and to ~= 'queued' and to ~= 'running' then
    leave_place(prefix, run, run_id)
  end
  if from ~= to then
    redis.call('HSET', run, 'status', to)
    if from then
      redis.call('ZREM', prefix .. ':runs:status:' .. from, run_id)
    end
    if from == 'waiting' then
      redis.call('ZREM', prefix .. ':runs:asks:people', run_id)
    end
    redis.call('ZADD', prefix .. ':runs:status:' .. to, 0, run_id)
  end
  return to
end

-- Queues a run that waited, and returns its status.
local function requeue(prefix, run, run_id)
  redis.call('HDEL', run, 'question')
  redis.call('HSET', run, 'not_before', '0')
  return set_status(prefix, run, run_id, 'waiting', 'queued')
end
