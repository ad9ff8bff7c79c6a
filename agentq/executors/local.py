"""`LocalExecutor`: iterations as tasks of this event loop. Durable only as far as its store is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Advance = Callable[[str], Awaitable[object]]


class LocalExecutor:
    """Advances runs in process. `advance` is given by whoever has the loop; errors of tasks surface in `join`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._advance: Advance | None = None
        self._is_closed = False

    def bind(self, advance: Advance) -> None:
        """Say how a run is advanced by one iteration."""
        self._advance = advance

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        if self._advance is None:
            raise RuntimeError("LocalExecutor.bind must be called before the first run")
        if self._is_closed:
            # A run that was handed back while its task was stopped: it is queued for somebody else.
            return
        self._tasks.add(asyncio.create_task(self._after(self._advance, run_id, delay), name=f"agentq-local-{run_id}"))

    async def _after(self, advance: Advance, run_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await advance(run_id)

    async def join(self) -> None:
        """Return when nothing is scheduled any more. Raises what a task raised."""
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= done
            for task in done:
                task.result()

    async def aclose(self) -> None:
        """Stop what is running; nothing starts any more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
