--[[
Tenants: so many wake-ups of one tenant stand in a queue and no more, so that one with many runs holds up the others by no more than
that. The number is `per_tenant` of the template; a template without it sets none.

The set <prefix>:tenant:{Q:T} names the runs of tenant T whose wake-ups stand in queue Q; its sorted set `:line` the other runs that are
due. Those have the field `shelved` and no due time. Whoever takes a wake-up of the tenant lets the next one in, at the tail of the queue,
with the template that <prefix>:tenants:wakeup keeps from the last run that got in line. <prefix>:tenants is the index: Q:T → when it was
checked. Runs with a priority and without a tenant are those of the tenant with the empty name.
]]
-- All of it is made for the first run of a tenant only: made anew in each call of each script, it would cost the others two microseconds.
local function make_tenants()
  -- The line is in order of rank; within a rank those come first that were under way before, then those that came first.
  local RANKS = {high = 0, normal = 1, low = 2}
  -- More than any time in milliseconds will be for long; the largest score is far below 2^53.
  local BAND = 2 ^ 42
  -- Of seven that are let in four are high, two normal and one low, as far as there are such: so none waits for ever.
  local TURNS = {0, 1, 0, 2, 0, 1, 0}
  local KEPT_MS = 86400000
  -- Runs in line that are gone, or went another way, and are passed over at once.
  local PASSED_OVER = 1000

  local function tenant_key(prefix, queue, tenant)
    return prefix .. ':tenant:{' .. queue .. ':' .. tenant .. '}'
  end

  local function rank_of(score)
    return math.floor(tonumber(score) / (2 * BAND))
  end

  -- The run that is let in next, or nil.
  local function next_in_line(key)
    local line = key .. ':line'
    local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')
    if not first[1] or rank_of(first[2]) < 0 or rank_of(first[2]) == rank_of(last[2]) then
      return first[1]
    end
    local rank = TURNS[redis.call('INCR', key .. ':turn') % #TURNS + 1]
    redis.call('PEXPIRE', key .. ':turn', KEPT_MS)
    local from, to = int(rank * 2 * BAND), '(' .. int((rank + 1) * 2 * BAND)
    return redis.call('ZRANGEBYSCORE', line, from, to, 'LIMIT', 0, 1)[1] or first[1]
  end

  -- The wake-up of a run is about to stand in its queue.
  local function stand(prefix, key, run_id, member, standing, now)
    if standing == 0 then
      redis.call('ZADD', prefix .. ':tenants', int(now), member)
    end
    redis.call('SADD', key, run_id)
  end

  -- Lets runs in line in, as many as may stand in the queue.
  local function refill(prefix, shape, queue, tenant, now)
    local key, member = tenant_key(prefix, queue, tenant), queue .. ':' .. tenant
    for _ = 1, PASSED_OVER do
      local standing = redis.call('SCARD', key)
      local run_id = standing < (shape.per_tenant or math.huge) and next_in_line(key)
      if not run_id then
        return
      end
      redis.call('ZREM', key .. ':line', run_id)
      local run = prefix .. ':{' .. run_id .. '}'
      if redis.call('HDEL', run, 'shelved') == 1 and redis.call('HGET', run, 'status') == 'queued' then
        stand(prefix, key, run_id, member, standing, now)
        redis.call('ZADD', prefix .. ':due', int(now + GRACE_MS), run_id)
        push(shape, run, run_id, queue, now, false)
      end
    end
  end

  -- Puts a run in line, behind its like; one that was cancelled comes next, so that it ends.
  local function get_in_line(line, run, run_id, now)
    local of = redis.call('HMGET', run, 'priority', 'fence', 'cancel', 'recoveries')
    local rank = of[3] and -1 or RANKS[of[1]] or RANKS.normal
    -- One that lost its worker since its last commit may be what kills them: the others must not wait for it.
    local is_new = not of[3] and ((tonumber(of[2]) or 0) == 0 or (tonumber(of[4]) or 0) > 0)
    local band = (2 * rank + (is_new and 1 or 0)) * BAND
    -- Two that come within a millisecond are in order, too.
    local last = redis.call('ZREVRANGEBYSCORE', line, '(' .. int(band + BAND), int(band), 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local score = math.max(band + now, (tonumber(last) or band) + 1)
    redis.call('ZADD', line, of[3] and 'CH' or 'NX', int(score), run_id)
  end

  -- The template that is kept, for scripts that have none.
  local kept_shape
  local function kept_template(prefix)
    local template = not kept_shape and redis.call('GET', prefix .. ':tenants:wakeup')
    kept_shape = kept_shape or (template and cjson.decode(template))
    return kept_shape
  end

  local function keep_template(prefix, template)
    redis.call('SET', prefix .. ':tenants:wakeup', template, 'PX', KEPT_MS)
  end

  -- Wakes a run of a tenant, or has it wait in line.
  local function wake_of_tenant(prefix, template, shape, run, run_id, queue, tenant, now, front)
    local key, member = tenant_key(prefix, queue, tenant), queue .. ':' .. tenant
    local line, standing = key .. ':line', redis.call('SCARD', key)
    local stands = redis.call('SISMEMBER', key, run_id) == 1
    if not stands and standing < shape.per_tenant and redis.call('EXISTS', line) == 0 then
      stand(prefix, key, run_id, member, standing, now)
      stands = true
    end
    if stands then
      push(shape, run, run_id, queue, now, front)
      return
    end
    get_in_line(line, run, run_id, now)
    redis.call('HSET', run, 'shelved', member)
    redis.call('ZREM', prefix .. ':due', run_id)
    keep_template(prefix, template)
    refill(prefix, shape, queue, tenant, now)
  end

  -- A wake-up of a run has been taken; with `goes_on` the run needs none any more.
  local function leave_queue(prefix, run, run_id, queue, tenant, goes_on, now)
    local key = tenant_key(prefix, queue, tenant)
    redis.call('SREM', key, run_id)
    if goes_on and redis.call('ZREM', key .. ':line', run_id) == 1 then
      redis.call('HDEL', run, 'shelved')
    end
    if redis.call('EXISTS', key .. ':line') == 1 then
      local shape = kept_template(prefix)
      if shape then
        refill(prefix, shape, queue, tenant, now)
      end
    elseif redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', prefix .. ':tenants', queue .. ':' .. tenant)
    end
  end

  -- Whether a run that is said to stand in its queue may do so.
  local function may_stand(run, now)
    local of = redis.call('HMGET', run, 'status', 'behind', 'gated', 'parked', 'not_before')
    return of[1] == 'queued' and not (of[2] or of[3] or of[4]) and (tonumber(of[5]) or 0) <= now
  end

  -- Looks after tenants that nobody has looked after for `every` milliseconds: runs may have been deleted, or have gone on by scripts
  -- of an older version.
  local function check_tenants(prefix, template, now, every, limit)
    local index = prefix .. ':tenants'
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', int(now - every), 'LIMIT', 0, limit)) do
      local queue, tenant = string.match(member, '^([^:]*):(.*)$')
      local key = tenant_key(prefix, queue, tenant)
      for _, run_id in ipairs(redis.call('SMEMBERS', key)) do
        if not may_stand(prefix .. ':{' .. run_id .. '}', now) then
          redis.call('SREM', key, run_id)
        end
      end
      if template ~= '' and redis.call('EXISTS', key .. ':line') == 1 then
        keep_template(prefix, template)
        refill(prefix, cjson.decode(template), queue, tenant, now)
      end
      if redis.call('EXISTS', key, key .. ':line') == 0 then
        redis.call('ZREM', index, member)
      else
        redis.call('ZADD', index, int(now), member)
      end
    end
  end

  return {wake = wake_of_tenant, leave = leave_queue, check = check_tenants}
end

local made_tenants
local function tenants()
  made_tenants = made_tenants or make_tenants()
  return made_tenants
end
