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

local function holds(state, fence)
  return state.status == 'running' and state.fence == fence
end
