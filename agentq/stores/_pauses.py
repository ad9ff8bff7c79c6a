"""Pausing an agent, a queue or everything, in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.stores._records import pause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.runs import Pause


class Pauses:
    """What is paused as a whole; see `Store.pause_all`."""

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts

    async def pause(self, scope: str, reason: str, by: str) -> Pause:
        (stands,) = await self._pipeline.run(
            self._script("pause_all"), paused=self._keys.paused, scope=scope, reason=reason, by=by
        )
        return pause_of(stands)

    async def resume(self, scope: str) -> None:
        await self._pipeline.run(
            self._script("resume_all"), paused=self._keys.paused, parked=self._keys.parked(scope), scope=scope
        )

    async def read(self) -> Mapping[str, Pause]:
        stored: Mapping[bytes, bytes] = await self._pipeline.execute("HGETALL", self._keys.paused)
        # An empty one was resumed, and its runs are being woken.
        return {scope.decode(): pause_of(pause) for scope, pause in stored.items() if pause}
