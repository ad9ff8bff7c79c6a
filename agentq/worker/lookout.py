"""The sweeper that a stock RQ worker lacks: each job sweeps before it ends, and the last one stays up while needed.

A delayed run has no job until somebody sweeps when its time has come, and a run whose worker was killed has none until
its lease is over. So a job that leaves empty queues behind, while a run of them is due within minutes and nobody else
sweeps, goes on sweeping in place of its worker's idle wait. It ends as soon as there is a job to take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rq import get_current_job

from agentq.errors import StoreUnavailable
from agentq.stores._due import any_due_within

if TYPE_CHECKING:
    from agentq.wiring import Parts
    from agentq.worker.sweeper import Sweeper

logger = logging.getLogger(__name__)
# A SimpleWorker sends no heartbeat during a job, and RQ forgets it after 420 s.
_LONGEST_S = 300.0
_PAUSE_S = 0.2
# Somebody who sweeps is heard of within one interval; twice that is sure enough, for the next job looks again.
_LISTEN_INTERVALS = 2


@dataclass(frozen=True, slots=True)
class StockWorker:
    """The RQ worker that this job runs in. Without queues, nobody stays."""

    name: str = ""
    queues: tuple[str, ...] = ()

    @classmethod
    async def current(cls, parts: Parts) -> StockWorker:
        """The worker of the current RQ job, if there is one."""
        job = get_current_job()
        if job is None:
            return cls()
        name = job.worker_name or ""
        queues, _ = await parts.executor.worker_record(name)
        return cls(name, queues or (job.origin,))


class Lookout:
    """Sweeps at the end of a job."""

    def __init__(self, parts: Parts, sweeper: Sweeper, worker: StockWorker) -> None:
        self._parts = parts
        self._sweeper = sweeper
        self._worker = worker
        self._pause_s = min(_PAUSE_S, sweeper.interval_s)
        self._until = time.monotonic() + _LONGEST_S

    async def keep(self) -> None:
        """Sweep, and stay while needed, at most five minutes. That Redis goes away meanwhile is no fault of the job."""
        try:
            await self._sweeper.sweep_all()
            if not await self._is_needed() or await self._hears_another():
                return
            logger.info("staying to wake runs that are due soon", extra={"worker": self._worker.name})
            while await self._is_needed():
                await asyncio.sleep(self._pause_s)
                await self._sweeper.sweep_all()
        except StoreUnavailable as error:
            logger.warning("not swept: %s", error, extra={"worker": self._worker.name})

    async def _is_needed(self) -> bool:
        left_s = self._until - time.monotonic()
        if left_s <= 0 or not self._worker.queues:
            return False
        executor, store = self._parts.executor, self._parts.store
        (_, stops), has_jobs = await asyncio.gather(
            executor.worker_record(self._worker.name), executor.has_jobs(self._worker.queues)
        )
        if stops or has_jobs:
            return False
        return await any_due_within(store.pipeline, store.keys, self._worker.queues, int(left_s * 1000))

    async def _hears_another(self) -> bool:
        """Whether somebody else sweeps, or there is no need any more. Sweeps nothing, so as not to hear itself."""
        stamp = await self._stamp()
        until = time.monotonic() + _LISTEN_INTERVALS * self._sweeper.interval_s
        while time.monotonic() < until:
            await asyncio.sleep(self._pause_s)
            if await self._stamp() != stamp or not await self._is_needed():
                return True
        return False

    async def _stamp(self) -> bytes | None:
        """When the last pass of anybody was."""
        stamp: bytes | None = await self._parts.store.pipeline.execute("GET", self._parts.store.keys.sweep)
        return stamp
