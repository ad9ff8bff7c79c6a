--[[
Forget a webhook that no worker has any more, and that its messages were to be delivered; they go when their time has passed.

KEYS[1]  webhooks  what workers have made known of webhooks
KEYS[2]  due       message ids of the webhook by next attempt
KEYS[3]  dead      message ids that were given up, by when
KEYS[4]  counts    how many of its messages came through, and what failed last

ARGV[1]  name      its name

Returns {1}.
]]
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return {1}
