"""Calls that start while the model still streams its reply: such as only read, and that come before any other.

Until the reply is journaled they may have been made in vain, so nobody hears of them: their events are held.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agentq.events.model import Event
    from agentq.messages import ToolCallPart
    from agentq.tools.execution import CallOutcome

# More than anybody reads of a call that is over when it is announced.
_MAX_HELD = 100


class EarlyCalls:
    """The calls of one reply that were started early; `emit` takes what calls report."""

    def __init__(self, slots: asyncio.Semaphore, emit: Callable[[Event], None]) -> None:
        self._slots = slots
        self._emit = emit
        self._started: dict[str, _Started] = {}
        self._is_open = True

    def offer(
        self,
        call: ToolCallPart,
        may_start: Callable[[ToolCallPart], bool],
        make: Callable[[ToolCallPart], Coroutine[None, None, CallOutcome | None]],
    ) -> None:
        """Start a call that the model has finished asking for, if it and all before it may start.

        `make` makes it, in a slot, and gives None if it was stopped.
        """
        self._is_open = self._is_open and may_start(call)
        if self._is_open:
            started = self._started[call.call_id] = _Started(call)
            started.task = asyncio.get_running_loop().create_task(
                self._run(started, make), name=f"agentq-early-{call.call_id}"
            )

    async def _run(
        self, started: _Started, make: Callable[[ToolCallPart], Coroutine[None, None, CallOutcome | None]]
    ) -> CallOutcome | None:
        async with self._slots:
            started.has_slot = True
            return await make(started.call)

    def report(self, call_id: str, event: Event) -> None:
        """Tell what a call reports; for one that nobody has heard of yet, keep it for later."""
        started = self._started.get(call_id)
        if started is None:
            self._emit(event)
        elif len(started.events) < _MAX_HELD:
            started.events.append(event)

    def has(self, call_id: str) -> bool:
        """Whether the call has a slot and was not taken."""
        return call_id in self._started and self._started[call_id].has_slot

    def take(self, call: ToolCallPart) -> tuple[asyncio.Task[CallOutcome | None], list[Event]] | None:
        """The call's task and its events so far; None if it still waits, was not started, or with other arguments."""
        started = self._started.pop(call.call_id, None)
        if started is None or started.task is None:
            return None
        # What comes with the end of a reply, such as the text of the arguments for an exact replay, is no other call.
        if started.has_slot and (started.call.name, started.call.arguments) == (call.name, call.arguments):
            return started.task, started.events
        started.task.cancel()
        return None

    async def drop(self) -> None:
        """Stop all that nobody has taken: their reply is void. Calls of another one may be offered."""
        tasks = [started.task for started in self._started.values() if started.task is not None]
        self._is_open = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._started = {}


@dataclass(slots=True)
class _Started:
    call: ToolCallPart
    task: asyncio.Task[CallOutcome | None] | None = None
    has_slot: bool = False
    events: list[Event] = field(default_factory=list)
