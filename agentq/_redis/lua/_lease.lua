--[[ Reading fields of a run, and whether a fence still holds its lease. ]]
local function read(run, ...)
  local names = {...}
  local values = redis.call('HMGET', run, ...)
  local state = {}
  for i, name in ipairs(names) do
    state[name] = values[i] or nil
  end
  return state
end

-- A field as a number; 0 where it is missing or is none: one odd run must not stop a script that serves many.
local function number(field)
  return tonumber(field) or 0
end

-- The owner counts too: a Redis that lost a claim gives its fence out again.
local function holds(state, fence, owner)
  return state.status == 'running' and state.fence == fence and state.owner == owner
end

-- Whether the time has come for a waiting run, whatever it waits for.
local function has_waited(state, now)
  return state.status == 'waiting' and number(state.not_before) > 0 and number(state.not_before) <= now
end

-- Whether a waiting run waits until it may use more.
local function waits_for_limit(question)
  return question and string.find(question, '"kind":"limit"', 1, true) ~= nil
end

-- Whether a waiting run waits for the end of another run, not for a person.
local function waits_for_child(question)
  return question and string.find(question, '"kind":"child"', 1, true) ~= nil
end
