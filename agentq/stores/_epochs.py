"""Epochs of a Redis: a restart or a failover begins a new one, and may have lost the last writes of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.events.model import DataLostEvent
from agentq.stores import _arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.stores.base import Lease

_REMEMBERED_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Epoch:
    """One server of this Redis: `number` counts them, `server` is its run id. `since_ms` is when it was first seen."""

    number: int
    server: str
    since_ms: int
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Losses:
    """What is remembered for 30 days: the epoch, when a loss was last noticed (0: never), and of how many runs."""

    number: int = 0
    since_ms: int = 0
    lost_ms: int = 0
    losses: int = 0


class Epochs:
    """Notes and reads them."""

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts

    async def look(self) -> Epoch:
        """Ask the server who it is."""
        info: bytes = await self._pipeline.execute("INFO", "server")
        lines = (line.partition(b":") for line in info.splitlines())
        server = next((value.decode() for name, _, value in lines if name == b"run_id"), "")
        number, since_ms, begins = await self._pipeline.run(
            self._script("epoch"), epoch=self._keys.epoch, server=server, ttl_ms=_REMEMBERED_MS
        )
        return Epoch(number, server, since_ms, is_new=bool(begins))

    async def report(self, lease: Lease, *, committed: int, unsure: bool) -> bool:
        """Mark a run of which Redis lost something."""
        (marked,) = await self._pipeline.run(
            self._script("lost"),
            run=self._keys.run(lease.run_id),
            events=self._keys.events(lease.run_id),
            epoch=self._keys.epoch,
            prefix=self._keys.prefix,
            run_id=lease.run_id,
            fence=lease.fence,
            committed=committed,
            unsure=int(unsure),
            ttl_ms=_REMEMBERED_MS,
            items=_arguments.items((DataLostEvent(unsure=unsure),)),
        )
        return bool(marked)


async def read_losses(pipeline: Pipeline, keys: Keys) -> Losses:
    """What is known of restarts and losses."""
    values: list[bytes | None] = await pipeline.execute("HMGET", keys.epoch, "number", "since", "lost", "losses")
    return Losses(*(int(value or 0) for value in values))
