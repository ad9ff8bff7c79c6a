--[[
Take the leases of many runs: of those named, then of those whose wake-ups wait in the queues, in order.

Run ids are discovered here, so their keys and those of sessions are built from the prefix. A run can be taken when it is
queued, due, not behind another run of its session and has a place of its concurrency key, or running with an expired lease. Messages that were sent into it are
appended to its transcript then, unless a reply waits for results. A wake-up that cannot be claimed is dropped: whoever holds the run wakes it next, and
the due times catch the rest. A run that lost its worker twice without a commit in between may be what kills them: a wake-up
of it is claimed alone, by a worker that has nothing else in flight. Runs of agents that this worker has not wait in <prefix>:unserved:<agent> until a worker
that serves the agent sweeps. What is paused is not taken: wake-ups of a paused queue stay in line, and runs that are
paused otherwise are parked. A run that was cancelled is taken all the same, so that it ends.

KEYS[1]    batch       the last batch of this owner: claim id, leases, foreign jobs
KEYS[2..]  queues      RQ lists of job ids, most urgent first

ARGV[1]  prefix       key prefix
ARGV[2]  owner        worker id
ARGV[3]  claim_id     the same id again returns the same batch
ARGV[4]  lease_ms     lease length
ARGV[5]  count        how many wake-ups to pop at most
ARGV[6]  job_prefix   prefix of RQ job hashes
ARGV[7]  version      newest schema version that the worker reads
ARGV[8]  idle         1 when the worker has nothing in flight
ARGV[9]  agents*      names of the agents that the worker has; empty for all
ARGV[10]  run_ids*    runs to claim by name
ARGV[11]  names*      names of the queues

Returns {claims, popped, foreign, suspect, paused}: suspect is the run that the worker is to claim by name once it is idle, or
empty; claims are {run id, run hash, journal, messages, first message index, messages of the
session before this run}, the last empty where the first index is not 0; foreign the job ids that are not wake-ups of ours;
paused the numbers of the queues from which nothing is taken, since they are paused.
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease
-- @include push
-- @include tenants
-- @include session
-- @include claimed
-- @include abandoned
-- @include pauses
-- @include inbox
-- @include counts

local NEWER_MS = 10000 -- A run that only a newer worker can read is looked at again after this long.
-- One claim takes no more messages than this, beyond its first run: reading them must not outlast a lease.
local MESSAGES = 5000
-- So many recoveries without a commit in between, the one that this claim would be among them, make a run a suspect.
local SUSPECT = 2
local ID_LENGTH = 300 -- What is longer is no id of an RQ job; it is told apart by its beginning.

local prefix, owner, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[4])
local names, run_ids, queues = lists(9, 3)
local now = now_ms()
local pauses = all_pauses(prefix)
local agents = {}
for _, name in ipairs(names) do
  agents[name] = true
end

-- What this command takes, or has taken when it was sent before.
local batch

local function key_of(run_id)
  return prefix .. ':{' .. run_id .. '}'
end

-- `is_named`: whoever names a run takes it as it is.
local function take(run_id, is_named)
  local run = key_of(run_id)
  local state = read(run, 'status', 'lease_until', 'agent', 'not_before', 'cancel', 'version', 'owner', 'fence', 'length',
    'session', 'history', 'behind', 'recoveries', 'pause', 'queue', 'started', 'progressed', 'inbox', 'iteration',
    'concurrency_key', 'places', 'gated', 'tenant')
  if has_waited(state, now) then
    state.status, state.not_before = requeue(prefix, run, run_id), '0'
  end
  local cancelled = state.cancel ~= nil
  local expired = state.status == 'running' and number(state.lease_until) <= now
  local due = state.status == 'queued' and (cancelled or (number(state.not_before) <= now and not state.behind
    and not state.gated))
  if state.tenant and state.queue then
    tenants().leave(prefix, run, run_id, state.queue, state.tenant, expired or due, now)
  end
  if not (expired or due) or not tonumber(state.fence) or not state.agent then
    return nil
  elseif expired and state.pause and not cancelled then
    rest_abandoned(prefix, run, run_id, now)
    return nil
  end
  local scope = not cancelled and scope_of(pauses, state.agent, state.queue)
  if scope then
    park(prefix, run, run_id, scope, now)
    return nil
  elseif number(state.version) > tonumber(ARGV[7]) then
    redis.call('ZADD', prefix .. ':due', int(now + NEWER_MS), run_id)
    redis.call('HSET', run, 'woken', '0')
    return nil
  elseif #names > 0 and not agents[state.agent] then
    redis.call('ZREM', prefix .. ':due', run_id)
    redis.call('ZADD', prefix .. ':unserved:' .. state.agent, int(now), run_id)
    return nil
  end
  local is_suspect = not is_named and not cancelled and number(state.recoveries) + (expired and 1 or 0) >= SUSPECT
  if is_suspect and (batch.taken[1] or ARGV[8] ~= '1') then
    -- One worker is to make room for it; should that one die, a sweep makes another wake-up.
    redis.call('ZADD', prefix .. ':due', int(now + lease_ms), run_id)
    redis.call('HSET', run, 'woken', '0')
    batch.suspect, batch.full = run_id, true
    return nil
  end
  if state.session and not state.history and not cancelled then
    local starts = enter(prefix, state.session, run, run_id)
    if starts ~= run_id then
      if starts then
        redis.call('HSET', key_of(starts), 'woken', '0')
        redis.call('ZADD', prefix .. ':due', int(now), starts)
      end
      return nil
    end
    state.history = redis.call('HGET', run, 'history')
  end
  if state.concurrency_key and not may_go_on(prefix, state, run, run_id, now) then
    return nil
  end
  local fence = redis.call('HINCRBY', run, 'fence', 1)
  redis.call('HSET', run, 'owner', owner, 'lease_until', int(now + lease_ms), 'phase', 'thinking', 'front', '',
    'updated', int(now), 'started', state.started or int(now), 'progressed', state.progressed or int(now))
  redis.call('ZADD', prefix .. ':due', int(now + lease_ms), run_id)
  set_status(prefix, run, run_id, state.status, 'running')
  if number(state.inbox) > 0 and redis.call('HEXISTS', run .. ':journal', 'reply') == 0 then
    take_in(run, state.iteration)
  end
  if fence == 1 then
    emit(run, run .. ':events', {'e' .. cjson.encode({type = 'run.started', agent = state.agent, worker = owner})}, now)
  end
  if expired then
    local recoveries = number(redis.call('HGET', run, 'recoveries')) + 1
    redis.call('HSET', run, 'recoveries', recoveries)
    reset(run, run .. ':events', 'recovered', now)
    emit(run, run .. ':events', {'e' .. cjson.encode({
      type = 'run.recovered', recoveries = recoveries, previous_owner = state.owner,
    })}, now)
    count(prefix, 'lease_expiries', state.agent, 1)
  end
  batch.full = batch.full or is_suspect
  return fence, number(state.length) + number(state.history)
end

local paused, is_kept = kept_queues(pauses, queues, #KEYS - 1)

local stored = redis.call('GET', KEYS[1])
batch = stored and cjson.decode(stored)
if not batch or batch.id ~= ARGV[3] then
  batch = {id = ARGV[3], taken = {}, foreign = {}, popped = 0, suspect = '', full = false}
  local messages = 0
  local function try(run_id, is_named)
    local fence, length = take(run_id, is_named)
    if fence then
      batch.taken[#batch.taken + 1] = {run_id, fence}
      messages = messages + length
    end
  end
  for _, run_id in ipairs(run_ids) do
    try(run_id, true)
  end
  for i = 2, #KEYS do
    while not is_kept[i - 1] and batch.popped < tonumber(ARGV[5]) and messages < MESSAGES and not batch.full do
      local job_id = redis.call('LPOP', KEYS[i])
      if not job_id then
        break
      end
      local run_id = string.match(job_id, '^([0-7][0-9A-HJKMNP-TV-Z]+)%-%d+$')
      if run_id and #run_id == 26 then
        redis.call('DEL', ARGV[6] .. job_id)
        try(run_id)
      else
        batch.foreign[#batch.foreign + 1] = string.sub(job_id, 1, ID_LENGTH)
      end
      batch.popped = batch.popped + 1
    end
  end
  if batch.popped > 0 or #batch.taken > 0 then
    redis.call('SET', KEYS[1], cjson.encode(batch), 'PX', lease_ms)
  end
end

local claims = {}
for _, lease in ipairs(batch.taken) do
  local state = read(key_of(lease[1]), 'status', 'fence', 'owner')
  if holds(state, int(lease[2]), owner) then
    claims[#claims + 1] = read_claim(prefix, owner, lease[1])
  end
end
return {claims, batch.popped, batch.foreign, batch.suspect, paused}
