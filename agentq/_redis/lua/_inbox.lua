--[[ What was sent into a run and waits in its list `:inbox`; the field `inbox` counts it. ]]
-- Appends what was sent into the run. Its budget of iterations counts from here, as after a retry: somebody wants more.
local function take_in(run, iteration)
  call_many('RPUSH', run .. ':messages', redis.call('LRANGE', run .. ':inbox', 0, -1))
  redis.call('DEL', run .. ':inbox')
  redis.call('HSET', run, 'inbox', '0', 'length', redis.call('LLEN', run .. ':messages'), 'heard_at', iteration or '0')
end
