"""The worker processes of the demo: two of them, as `agentq worker` starts them."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from agentq._children import Child, stop_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

COUNT = 2
_READY_S = 30.0
_STOP_S = 3.0
_LOOK_S = 0.02
_LINES_SHOWN = 15


class WorkersGone(Exception):
    """The workers cannot go on. `log` is what one of them said."""

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(reason)
        self.log = log


class Workers:
    """Processes that are watched while somebody relies on them."""

    def __init__(self, processes: list[Child]) -> None:
        self._processes = processes

    async def ready(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Return when `is_ready` says so. Raises `WorkersGone` when one of them ends instead, or it takes too long."""
        until = time.monotonic() + _READY_S
        while not await is_ready():
            for worker in self._processes:
                if worker.exit_code is not None:
                    raise _gone(worker, f"a worker did not start (exit code {worker.exit_code})")
            if time.monotonic() > until:
                raise _gone(self._processes[0], f"the workers were not ready within {_READY_S:.0f} s")
            await asyncio.sleep(_LOOK_S)

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what needs workers. One of them may end meanwhile; raises `WorkersGone` when all have."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_S)
                if all(worker.exit_code is not None for worker in self._processes) and not task.done():
                    raise _gone(self._processes[-1], "all workers have ended")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextmanager
def running_workers(folder: Path, *, checkout: Path, queue: str, environ: Mapping[str, str]) -> Iterator[Workers]:
    """Workers for the block. They start in the checkout, where the default app is found, and log into `folder`."""
    command = [sys.executable, "-m", "agentq", "worker", "--queue", queue]
    processes: list[Child] = []
    try:
        for number in range(1, COUNT + 1):
            log = folder / f"worker-{number}.log"
            processes.append(Child(command, log=log, cwd=checkout, environ=environ))
        yield Workers(processes)
    finally:
        stop_all(processes, _STOP_S)


def _gone(worker: Child, reason: str) -> WorkersGone:
    lines = worker.log.read_text(errors="replace").rstrip().splitlines()
    return WorkersGone(reason, "\n".join(lines[-_LINES_SHOWN:]))
