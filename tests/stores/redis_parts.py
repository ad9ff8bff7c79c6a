"""Redis stores for tests, on a clock that the tests can put forward."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from agentq._redis.hub import Hub
from agentq._redis.scripts import Script, load
from agentq.events.redis import RedisEventStream
from agentq.stores.redis import RedisStore

if TYPE_CHECKING:
    from agentq._redis.connection import Connection
    from agentq.stores._retention import Retention

_OFFSET_KEY = "test:clock"
CLOCK = f"""
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(redis.call('GET', '{_OFFSET_KEY}') or '0')
end

local function int(number)
  return string.format('%.0f', number)
end
"""
_PASS_TIME = """
local ms = tonumber(ARGV[1])
redis.call('INCRBY', KEYS[1], ms)
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > ms then
    redis.call('PEXPIRE', key, left - ms)
  elseif left >= 0 then
    redis.call('DEL', key)
  end
end
"""


@cache
def timed_script(name: str) -> Script:
    return load(name, {"clock": CLOCK})


class TimedParts:
    """A store and a stream whose scripts add an offset to Redis's clock."""

    def __init__(self, connection: Connection, retention: Retention | None = None, *, prefix: str = "agentq") -> None:
        self.connection = connection
        self.hub = Hub(connection)
        self.store = RedisStore(connection, prefix=prefix, hub=self.hub, retention=retention, scripts=timed_script)
        self.stream = RedisEventStream(self.store.pipeline, self.hub, self.store.keys, self.store.messages)

    async def pass_time(self, seconds: float) -> None:
        """Put the scripts' clock forward, and bring every time to live nearer by as much."""
        await self.store.pipeline.execute("EVAL", _PASS_TIME, 1, _OFFSET_KEY, round(seconds * 1000))

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.connection.aclose()
