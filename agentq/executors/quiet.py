"""Workers that are told to take nothing new, each by a key of its own in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq import _json
from agentq.runs import Pause

if TYPE_CHECKING:
    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline

# A worker that has the key renews it with each look, every second. So it outlives a Redis that is away for a while, and
# is gone soon after its worker: the next one has another name.
_TTL_S = 120


class Quiet:
    """Tells workers, and asks for them. Raises `StoreUnavailable` when Redis is away."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys

    async def tell(self, worker: str, *, reason: str, by: str) -> None:
        """Tell a worker. Again: the first word stands."""
        now: tuple[bytes, bytes] = await self._pipeline.execute("TIME")
        told = _json.dumps({"reason": reason, "by": by, "at_ms": int(now[0]) * 1000 + int(now[1]) // 1000})
        await self._pipeline.execute("SET", self._keys.quiet(worker), told, "EX", _TTL_S, "NX")

    async def take_back(self, worker: str) -> None:
        """Let a worker take work again. Again: no effect."""
        await self._pipeline.execute("DEL", self._keys.quiet(worker))

    async def told(self, worker: str) -> Pause | None:
        """What a worker was told, if anything; for the worker itself, which so keeps it."""
        stored: bytes | None = await self._pipeline.execute("GETEX", self._keys.quiet(worker), "EX", _TTL_S)
        if stored is None:
            return None
        told = _json.loads(stored)
        return Pause(told["reason"], told["by"], int(told["at_ms"]))
