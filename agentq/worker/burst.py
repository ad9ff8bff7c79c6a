"""When a worker that was started with `--burst` is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import RunNotFound
from agentq.runs import Status, pausing_scope

if TYPE_CHECKING:
    from agentq.loop import Outcome
    from agentq.stores.base import Store
    from agentq.worker.sweeper import Sweeper


class Burst:
    """Done means: the queues are empty, no iteration is in flight, and no run of this burst waits to be tried again.

    So a run that backs off after a provider's fault is waited for, if this worker advanced it last; other delayed
    runs are not.
    """

    def __init__(self, store: Store, sweeper: Sweeper) -> None:
        self._store = store
        self._sweeper = sweeper
        self._going_on: set[str] = set()

    def saw(self, outcome: Outcome) -> None:
        """Note how an iteration of this worker ended."""
        if outcome.kind == "committed" and outcome.status is Status.QUEUED:
            self._going_on.add(outcome.run_id)
        else:
            self._going_on.discard(outcome.run_id)

    async def is_over(self) -> bool:
        """To be asked when the queues are empty and nothing is in flight. Wakes what only a sweep can find."""
        for run_id in tuple(self._going_on):
            if not await self._is_queued(run_id):
                self._going_on.discard(run_id)
        if self._going_on:
            return False
        found = await self._sweeper.sweep()
        return not (found.woken or found.to_wake)

    async def _is_queued(self, run_id: str) -> bool:
        try:
            run = await self._store.read(run_id)
            return run.status is Status.QUEUED and pausing_scope(run, await self._store.pauses()) is None
        except RunNotFound:
            return False
