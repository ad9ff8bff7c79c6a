"""How often something may be done, counted by the library `limits`: in Redis for all workers, or in memory."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from agentq.tools.rates import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


# A clock of this machine that goes slower than the one that counts must not ask at once again and again.
_LEAST_S = 0.05


class Rates:
    """Moving windows, counted over the connections of `pool`, which is redis-py's; None for memory.

    `errors` turns what goes wrong with Redis into our own.
    """

    def __init__(
        self,
        pool: Any = None,
        *,
        prefix: str = "limits",
        errors: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._pool = pool
        self._errors = errors
        self._prefix = prefix
        self._limiter: Any = None

    async def take(self, limits: str, of: Sequence[str]) -> float:
        """See `Shared.take`."""
        with self._errors():
            return await self._take(limits, of)

    async def _take(self, limits: str, of: Sequence[str]) -> float:
        items = parsed(limits)
        limiter = self._limiter or self._open()
        for item in items:
            if not await _done(limiter.test(item, *of)):
                return await self._wait(item, of)
        for item in items:
            # Somebody was faster between the two. What was counted is lost, and too little is better than too much.
            if not await _done(limiter.hit(item, *of)):
                return await self._wait(item, of)
        return 0.0

    async def _wait(self, item: Any, of: Sequence[str]) -> float:
        """Until the next use is free, and as many uses more as others wait for already: not all are to ask at once."""
        window_s = item.get_expiry()
        stats = await _done(self._limiter.get_window_stats(item, *of))
        waiting = await _done(self._limiter.storage.incr(f"{item.key_for(*of)}/waiting", window_s, 1))
        next_s = min(max(stats.reset_time - time.time(), _LEAST_S), window_s)
        return float(next_s + (waiting - 1) * window_s / item.amount)

    def _open(self) -> Any:
        if self._pool is None:
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter as InMemory

            self._limiter = InMemory(MemoryStorage())
        else:
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import MovingWindowRateLimiter

            # Its own connections would know neither our limits of time nor Unix sockets. The address is for nothing.
            storage = RedisStorage(
                "async+redis://localhost:6379",
                implementation="redispy",
                key_prefix=self._prefix,
                connection_pool=self._pool,
            )
            self._limiter = MovingWindowRateLimiter(storage)
        return self._limiter


async def _done(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value
