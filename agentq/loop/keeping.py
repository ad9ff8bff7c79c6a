"""Keeping what came of the calls of one iteration: in the journal or for the commit, and told to viewers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from agentq.decide import unknown_result
from agentq.events.model import ToolFailed, ToolFinished
from agentq.steps import encode_call_step
from agentq.stores.base import StepRecord
from agentq.tools.results import within_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart, ToolResultPart
    from agentq.steps import CallStep
    from agentq.stores.values import Change
    from agentq.tools.function import Tool

NO_FILES: Mapping[str, bytes] = MappingProxyType({})


class Keeping:
    """Keeps results; `steps` is what the journal knows of the calls, and is kept up to date."""

    def __init__(self, steps: dict[str, CallStep], writer: StepWriter, max_chars: int) -> None:
        self._steps = steps
        self._writer = writer
        self._max_chars = max_chars

    def within_limit(self, result: ToolResultPart, tool: Tool | None) -> ToolResultPart:
        """The result of a call of the tool, cut where it is longer than it may be."""
        own = tool.behaviour.max_result_chars if tool is not None else None
        return within_limits(result, self._max_chars if own is None else min(self._max_chars, own), self._max_chars)

    def tell(self, result: ToolResultPart, step: CallStep, duration_ms: int) -> None:
        """Tell viewers, and leave it to the commit to store the result."""
        self._writer.emit(_finished_event(result, duration_ms))
        self._steps[result.call_id] = step

    async def journal(
        self,
        result: ToolResultPart,
        step: CallStep,
        duration_ms: int,
        changes: tuple[Change, ...] = (),
        contents: Mapping[str, bytes] = NO_FILES,
    ) -> None:
        """Store the result, with the files and the changes that it brings."""
        record = StepRecord(result.call_id, encode_call_step(step), changes=changes, files=contents)
        await self._writer.write([record], [_finished_event(result, duration_ms)])
        self._steps[result.call_id] = step

    async def give_up(self, call: ToolCallPart, step: CallStep) -> None:
        """Store that nobody knows what became of a call."""
        result = unknown_result(call)
        await self.journal(result, step.model_copy(update={"result": result}), 0)


def _finished_event(result: ToolResultPart, duration_ms: int) -> ToolFinished | ToolFailed:
    if result.outcome == "ok":
        return ToolFinished(
            call_id=result.call_id,
            name=result.name,
            content=result.content,
            files=result.files,
            data=result.data,
            duration_ms=duration_ms,
        )
    return ToolFailed(
        call_id=result.call_id,
        name=result.name,
        content=result.content,
        outcome=result.outcome,
        duration_ms=duration_ms,
    )
