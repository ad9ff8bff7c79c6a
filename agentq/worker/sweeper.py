"""The sweeper: finds expired leases, due delays and lost wake-ups, and wakes those runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agentq.errors import RunNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentq.executors.base import Executor
    from agentq.stores.base import Store, Sweep, Wakeup
    from agentq.worker.outage import Outage

logger = logging.getLogger(__name__)
_AFTER_BUG_S = 1.0
# How many runs one pass wakes, so that no script keeps Redis to itself for long.
_LIMIT = 100
# Half a lease without a sweep counts as a pause of all workers, which puts recovery off: sweep well within that.
_SWEEPS_IN_LEASE = 8


class Sweeper:
    """Sweeps every `sweep_ms`, or more often where leases are short, from `start` to `stop`."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        *,
        wakeup: Wakeup | None,
        lease_ms: int,
        sweep_ms: int,
        agents: Sequence[str] = (),
        outage: Outage,
    ) -> None:
        self._store = store
        self._executor = executor
        self._wakeup = wakeup
        self._lease_ms = lease_ms
        self._sweep_ms = min(sweep_ms, lease_ms / _SWEEPS_IN_LEASE)
        self._agents = agents
        self._outage = outage
        self._task: asyncio.Task[None] | None = None

    @property
    def interval_s(self) -> float:
        """How often it sweeps between `start` and `stop`."""
        return self._sweep_ms / 1000

    def start(self) -> None:
        loop = repeat(self.sweep_all, every_s=self.interval_s, who="sweeper", outage=self._outage)
        self._task = asyncio.create_task(loop, name="agentq-sweeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sweep_all(self) -> None:
        """Sweep until a pass finds less than it may wake: after a crash many runs are due at once."""
        found = await self.sweep()
        while len(found.woken) + len(found.to_wake) >= _LIMIT:
            found = await self.sweep()

    async def sweep(self) -> Sweep:
        """One pass: wakes every run that it finds. Raises `StoreUnavailable`."""
        found = await self._store.sweep(lease_ms=self._lease_ms, wake=self._wakeup, limit=_LIMIT, agents=self._agents)
        for run_id in found.to_wake:
            try:
                await self._executor.schedule_next_iteration(run_id)
            except RunNotFound:
                logger.debug("run %s is gone", run_id, extra={"run_id": run_id})
        for run_id in (*found.woken, *found.to_wake):
            logger.debug("run %s woken by the sweeper", run_id, extra={"run_id": run_id})
        return found


async def repeat(step: Callable[[], Awaitable[object]], *, every_s: float, who: str, outage: Outage) -> None:
    """Call `step` for ever, `every_s` apart; sits out that Redis is away, and survives bugs of a step."""
    while True:
        pause = every_s
        try:
            await step()
            outage.worked(who)
        except StoreUnavailable as error:
            pause = outage.failed(who, error)
        except Exception:  # one odd run must not end the recovery of all others
            logger.exception("%s failed; it goes on", who)
            pause = max(every_s, _AFTER_BUG_S)
        await asyncio.sleep(pause)
