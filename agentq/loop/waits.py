"""Calls that rest: what they wait for, until when, and what people are told of that."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agentq.errors import AlreadyDecided, NotWaiting
from agentq.events.model import RunAnswered, RunDelayed, RunWaiting
from agentq.loop.durable import expired, part_of
from agentq.loop.writer import patiently
from agentq.runs import Question
from agentq.steps import APPROVAL, Approval, Wait, encode_approval, encode_call_step, encode_durable_step
from agentq.stores.base import Decision, StepRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.events.model import Event
    from agentq.loop.durable import Parts
    from agentq.loop.loop import Loop
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState
    from agentq.steps import CallStep
    from agentq.tools.function import Tool

# People are warned when so much of the time is over.
_WARN_AT = 0.8


def needs_approval(tool: Tool, arguments: Mapping[str, Any]) -> bool:
    """Whether a person has to allow the call. Raises what a function of the tool raises."""
    approval = tool.behaviour.approval
    return approval if isinstance(approval, bool) else bool(approval(SimpleNamespace(**arguments)))


class Waits:
    """The calls of one iteration that rest. `steps` is what the journal knows of the calls, and is kept up to date."""

    def __init__(self, loop: Loop, run: RunState, writer: StepWriter, steps: dict[str, CallStep], parts: Parts) -> None:
        self._loop = loop
        self._run = run
        self._writer = writer
        self._steps = steps
        self._parts = parts

    def for_approval(self, tool: Tool) -> Wait | None:
        """What a call waits for that somebody has to allow; None where nobody can be asked."""
        if not self._loop.can_be_told:
            return None
        ttl_s = tool.behaviour.approval_ttl
        now = self._parts.now_ms
        until_ms = 0 if ttl_s is None else now + int(ttl_s * 1000)
        return Wait(
            kind="approval",
            since_ms=now,
            until_ms=until_ms,
            approvers=tool.behaviour.approvers,
            destructive=tool.behaviour.destructive,
        )

    async def begin(self, call: ToolCallPart, step: CallStep, wait: Wait) -> None:
        """Journal that a call rests, and tell viewers."""
        step = step.model_copy(update={"waits": wait})
        await self._writer.write([StepRecord(call.call_id, encode_call_step(step))], [self._told(call, wait)])
        self._steps[call.call_id] = step

    async def look(self, call: ToolCallPart) -> bool:
        """Whether what the call waits for has come by now; people are warned where its time is nearly over."""
        step = self._steps[call.call_id]
        wait = step.waits
        if wait is None:
            return False
        if wait.kind == "signal":
            await self._parts.read_signals()
        elif wait.kind in ("approval", "input") and self._parts.has_expired(wait):
            await self._expire(call, step, wait)
        elif self._warns(wait) and self._parts.now_ms >= _warn_ms(wait):
            warned = wait.model_copy(update={"warned": True})
            step = step.model_copy(update={"waits": warned})
            left_ms = wait.until_ms - self._parts.now_ms
            told = RunDelayed(
                reason=f"{call.name} still waits for {_for_whom(wait)}; then it is given up", delay_ms=left_ms
            )
            await self._writer.write([StepRecord(call.call_id, encode_call_step(step))], [told])
            self._steps[call.call_id] = step
        return self._parts.is_ready(call.call_id, step)

    def question(self, call: ToolCallPart) -> Question:
        """What the run waits for because of the call."""
        step = self._steps[call.call_id]
        wait = step.waits or Wait(kind="timer")
        return Question(
            call_id=call.call_id,
            tool=call.name,
            text=_words(call, wait),
            kind=wait.kind,
            arguments=call.arguments,
            attempt=step.attempt,
            arguments_hash=step.arguments_hash,
            provider_call_id=call.provider_call_id,
            name=wait.name,
            number=wait.number,
            since_ms=wait.since_ms,
            until_ms=wait.until_ms,
            approvers=wait.approvers,
            destructive=wait.destructive,
            schema=wait.answer_schema,
        )

    def within_ms(self, call: ToolCallPart) -> int:
        """When the run has to be looked at again because of the call; 0 for when something comes."""
        wait = self._steps[call.call_id].waits
        if wait is None or not wait.until_ms:
            return 0
        at_ms = _warn_ms(wait) if self._warns(wait) else wait.until_ms
        return max(at_ms - self._parts.now_ms, 1)

    def _warns(self, wait: Wait) -> bool:
        return wait.kind in ("approval", "input") and wait.until_ms > 0 and not wait.warned

    async def _expire(self, call: ToolCallPart, step: CallStep, wait: Wait) -> None:
        """Nobody decided in time. Somebody may do so at this very moment: then that counts."""
        if wait.kind == "approval":
            given = Approval(decision="expired", arguments_hash=step.arguments_hash)
            record = StepRecord(call.call_id + APPROVAL, encode_approval(given))
        else:
            record = StepRecord(part_of(call.call_id, wait.number), encode_durable_step(expired(wait)))
        told = RunAnswered(call_id=call.call_id, name=call.name, answer="expired")
        decision = Decision(call.call_id, encode_call_step(step), record, (told,))
        store = self._loop.store
        # Somebody may be faster, or have cancelled the run: the journal says which.
        with contextlib.suppress(AlreadyDecided, NotWaiting):
            await patiently(
                lambda: store.decide(self._run.run_id, decision), self._loop.clock, lambda: self._writer.closed
            )
        await self._parts.read_again()

    def _told(self, call: ToolCallPart, wait: Wait) -> Event:
        if wait.kind == "timer":
            left_ms = max(wait.until_ms - self._parts.now_ms, 0)
            return RunDelayed(reason=f"{call.name} goes on then", delay_ms=left_ms)
        return RunWaiting(
            call_id=call.call_id,
            name=call.name,
            text=_words(call, wait),
            arguments=call.arguments,
            kind=wait.kind,
            approvers=wait.approvers,
            destructive=wait.destructive,
            until_ms=wait.until_ms,
            answer_schema=None if wait.answer_schema is None else dict(wait.answer_schema),
        )


def _warn_ms(wait: Wait) -> int:
    return wait.since_ms + int((wait.until_ms - wait.since_ms) * _WARN_AT)


def _for_whom(wait: Wait) -> str:
    return "an answer" if wait.kind == "input" else "a decision"


def _words(call: ToolCallPart, wait: Wait) -> str:
    match wait.kind:
        case "approval":
            who = f" by {' or '.join(wait.approvers)}" if wait.approvers else ""
            gravity = "; what it does cannot be undone" if wait.destructive else ""
            return f"{call.name} has to be allowed{who}{gravity}"
        case "input":
            return wait.name
        case "signal":
            return f"{call.name} waits for the signal {wait.name}"
        case _:
            return f"{call.name} sleeps"
