--[[
Ask a run to stop, and the runs that it started. The worker that holds it is told at once; a run that nobody holds becomes
due at once.

Builds listing keys, and keys of the runs below it, from the prefix. Again: no effect.

KEYS[1]  run        run hash

ARGV[1]  prefix     key prefix
ARGV[2]  run_id     run id
ARGV[3]  reason     words for people, may be empty
ARGV[4]  items*     events

Returns {status, a live lease exists}, or
  -1  RunNotFound          there is no such run
  -2  RunAlreadyFinished   it has completed or failed
]]
-- @include clock
-- @include lists
-- @include emit
-- @include places
-- @include status
-- @include lease
-- @include cancel

local prefix, run, run_id = ARGV[1], KEYS[1], ARGV[2]
local state = read(run, 'status')
if not state.status then
  return -1
end
if state.status == 'completed' or state.status == 'failed' then
  return -2
end
local now = now_ms()
local status, held = ask_to_cancel(prefix, run, run_id, ARGV[3], lists(4, 1), now)
cancel_children(prefix, run, 'its parent was cancelled', now)
return {status, held and 1 or 0}
