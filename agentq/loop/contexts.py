"""What the tools of one iteration get to know, and how their reports and writes come to the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.events.model import ToolProgress
from agentq.steps import PART
from agentq.tools.context import ToolContext

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from agentq.events.model import Event
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState


class Contexts:
    """Makes the contexts of calls. `emit` takes what a call reports."""

    def __init__(self, run: RunState, writer: StepWriter, emit: Callable[[str, Event], None]) -> None:
        self._run = run
        self._writer = writer
        self._emit = emit

    def of(self, call: ToolCallPart, attempt: int, flag: threading.Event) -> ToolContext:
        """The context of one attempt of a call; `flag` is set when nobody waits for it any more."""
        event_loop = asyncio.get_running_loop()

        def report(message: str, fraction: float | None) -> None:
            message = _json.storable(message)
            event = ToolProgress(call_id=call.call_id, name=call.name, message=message, fraction=fraction)
            event_loop.call_soon_threadsafe(self._emit, call.call_id, event)

        async def commit_effect(number: int, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
            return await self._writer.commit_effect(f"{call.call_id}{PART}{number}", script, keys, args)

        return ToolContext(
            run_id=self._run.run_id,
            call_id=call.call_id,
            session_id=self._run.session_id,
            user_id=self._run.user_id,
            idempotency_key=call.call_id,
            attempt=attempt,
            metadata=self._run.metadata,
            cancel_event=flag,
            report=report,
            commit_effect=commit_effect,
        )
