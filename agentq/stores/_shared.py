"""What all workers share for a time, in Redis; see `Shared`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline


class RedisShared:
    """Plain keys with a time to live."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._pipeline.execute("GET", self._keys.shared(key))
        return value

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        await self._pipeline.execute("SET", self._keys.shared(key), value, "PX", ttl_ms)

    async def delete(self, key: str) -> None:
        await self._pipeline.execute("DEL", self._keys.shared(key))
