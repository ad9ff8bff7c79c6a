"""What all workers share for a time, in Redis; see `Shared`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agentq._redis.connection import redis_errors
from agentq.stores._rates import Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._redis.connection import Connection
    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.stores.values import BreakerRule


class RedisShared:
    """Keys with a time to live, breakers, and counts by the library `limits`, over connections of the same pool."""

    def __init__(
        self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script], connection: Connection
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts
        self._rates = Rates(
            connection.client.connection_pool,
            prefix=f"{keys.prefix}:limits",
            errors=lambda: redis_errors(connection.where),
        )

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._pipeline.execute("GET", self._keys.shared(key))
        return value

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        await self._pipeline.execute("SET", self._keys.shared(key), value, "PX", ttl_ms)

    async def delete(self, key: str) -> None:
        await self._pipeline.execute("DEL", self._keys.shared(key))

    async def take(self, limits: str, of: Sequence[str]) -> float:
        return await self._rates.take(limits, of)

    async def ask_breaker(self, key: str, rule: BreakerRule, *, token: str) -> int:
        until_ms = await self._breaker("ask", key, rule, token)
        # Whether it may be called Redis has said; for how long not is for people, and this clock will do.
        return max(until_ms - round(time.time() * 1000), 1) if until_ms else 0

    async def tell_breaker(self, key: str, rule: BreakerRule, *, failed: bool, token: str) -> None:
        await self._breaker("failed" if failed else "succeeded", key, rule, token)

    async def _breaker(self, action: str, key: str, rule: BreakerRule, token: str) -> int:
        (until_ms,) = await self._pipeline.run(
            self._script("breaker"),
            breaker=self._keys.breaker(key),
            action=action,
            failures=rule.failures,
            pause_ms=rule.pause_ms,
            window_ms=rule.window_ms,
            token=token,
        )
        return int(until_ms)
