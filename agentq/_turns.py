"""Turns: who may go on with a session in this process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The sessions whose turn the running code is in: a tool of a run knows the run's.
_mine: ContextVar[frozenset[str]] = ContextVar("agentq_sessions", default=frozenset())


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

        Raises `InvalidInput` for who has it already, which would wait for itself, and when another event loop of this
        process is in the session.
        """
        if session_id in _mine.get():
            raise InvalidInput(
                f"session {session_id!r} waits for this very call to end; run the other prompt in a session of its own",
                field="session_id",
            )
        queue = self._enter(session_id)
        token = _mine.set(_mine.get() | {session_id})
        try:
            async with queue.lock:
                yield
        finally:
            _mine.reset(token)
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
