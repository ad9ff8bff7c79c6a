"""What a tool may know about the call that it serves, and how it reports progress."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping


def _report_nothing(message: str, fraction: float | None) -> None:
    """The sink of a context that no loop made, as in a user's test."""


class _Pause:
    """Awaited, it gives other tasks a turn. Unlike a coroutine it may be dropped without a warning."""

    def __await__(self) -> Generator[Any, Any, None]:
        return asyncio.sleep(0).__await__()


_pause = _Pause()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolContext:
    """The call that a tool serves. A tool gets it in the parameter that is annotated with this class.

    `idempotency_key` is the same on every attempt of one call, and no other call has it. `attempt` counts from 1.
    `metadata` is what the run was enqueued with. `cancel_event` belongs to this call alone: a timeout sets it.
    `report` takes progress from any thread and neither blocks nor raises.
    """

    run_id: str
    call_id: str
    session_id: str | None = None
    user_id: str | None = None
    idempotency_key: str = ""
    attempt: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cancel_event: threading.Event = field(default_factory=threading.Event, repr=False)
    report: Callable[[str, float | None], None] = field(default=_report_nothing, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: the run was cancelled or the call timed out.

        A thread cannot be stopped from outside, so a long synchronous tool looks here from time to time.
        """
        return self.cancel_event.is_set()

    def progress(self, message: str = "", fraction: float | None = None) -> Awaitable[None]:
        """Tell those who watch how far the tool is; `fraction` is 0 to 1.

        The report leaves at once. A synchronous tool just calls this; an async one may await it, which gives other
        work a turn. Nothing is sent once the call is cancelled. Raises `InvalidInput` for another fraction.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidInput(f"fraction is from 0 to 1, not {fraction}", field="fraction")
        if not self.cancel_event.is_set():
            self.report(message, fraction)
        return _pause
