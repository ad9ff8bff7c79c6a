"""Cancelling runs of the in-memory store, and who hears of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentq.stores._memory_moves import ask_to_cancel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentq.stores._memory_run import MemoryRun


class Cancels:
    """Asks runs to stop, and tells those who hold them. `find` gives a run that is there."""

    def __init__(self, find: Callable[[str], MemoryRun | None]) -> None:
        self._find = find
        self._watchers: dict[str, set[asyncio.Queue[str]]] = {}

    def ask(self, run: MemoryRun, reason: str, now: int, *, by: str = "") -> None:
        """Ask one run."""
        if ask_to_cancel(run, reason, now, by) and run.is_held(now):
            for cancels in self._watchers.get(run.state.owner or "", ()):
                cancels.put_nowait(run.state.run_id)

    def ask_below(self, run: MemoryRun, reason: str, now: int) -> None:
        """Ask the runs that this one started, and those below them."""
        for child in filter(None, map(self._find, run.children)):
            if not child.state.status.is_final:
                self.ask(child, reason, now)
                self.ask_below(child, reason, now)

    async def watch(self, owner: str) -> AsyncIterator[str]:
        """See `MemoryStore.watch_cancels`."""
        cancels: asyncio.Queue[str] = asyncio.Queue()
        watchers = self._watchers.setdefault(owner, set())
        watchers.add(cancels)
        try:
            while True:
                yield await cancels.get()
        finally:
            watchers.discard(cancels)
            if not watchers:
                self._watchers.pop(owner, None)
