"""Turns: who may go on with a session in this process, and whether the running code is part of one of its runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass(eq=False, slots=True)
class _Part:
    """A stretch of a run of the session. Code that outlives it is not part of it any more."""

    session_id: str
    is_over: bool = False


# What the running code is part of: a tool of a run knows the run's session.
_parts: ContextVar[tuple[_Part, ...]] = ContextVar("agentq_sessions", default=())


@contextmanager
def part_of(session_id: str | None) -> Iterator[None]:
    """Say that the code of the block, and what it starts, is part of a run of the session: it ends before the run."""
    if session_id is None:
        yield
        return
    part = _Part(session_id)
    token = _parts.set((*(each for each in _parts.get() if not each.is_over), part))
    try:
        yield
    finally:
        part.is_over = True
        _parts.reset(token)


def check_is_no_part_of(session_id: str) -> None:
    """Raise `InvalidInput` in code that is part of a run of the session: another run of it would wait for this one."""
    if any(part.session_id == session_id and not part.is_over for part in _parts.get()):
        raise InvalidInput(
            f"session {session_id!r} waits for this very call to end; run the other prompt in a session of its own",
            field="session_id",
        )


@dataclass(slots=True)
class _Queue:
    loop: asyncio.AbstractEventLoop
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Turns:
    """One after the other for each session, in the order in which they come."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def take(self, session_id: str) -> AsyncIterator[None]:
        """The turn of a session for the block.

        Raises `InvalidInput` when another event loop of this process is in the session.
        """
        queue = self._enter(session_id)
        try:
            async with queue.lock:
                with part_of(session_id):
                    yield
        finally:
            with self._guard:
                queue.users -= 1
                if not queue.users:
                    del self._queues[session_id]

    def _enter(self, session_id: str) -> _Queue:
        loop = asyncio.get_running_loop()
        with self._guard:
            queue = self._queues.setdefault(session_id, _Queue(loop))
            if queue.loop is not loop:
                raise InvalidInput(
                    f"session {session_id!r} is in use in another event loop of this process; use one loop, or workers "
                    "with Redis, where any process may go on with any session",
                    field="session_id",
                )
            queue.users += 1
            return queue
