"""Making the tool calls of one reply: announced where they have an effect, run, journaled one by one.

The last result needs no write of its own if the call only read: the commit follows at once, and takes it along.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.decide import unknown_result
from agentq.errors import CancelRequested
from agentq.events.model import ToolCalled, ToolFailed, ToolFinished, ToolProgress
from agentq.loop.interrupts import Interrupt
from agentq.steps import PART, CallStep, arguments_hash, encode_call_step
from agentq.stores.base import StepRecord
from agentq.tools.behaviour import Reconciled
from agentq.tools.context import ToolContext
from agentq.tools.execution import (
    CallOutcome,
    CallWithdrawn,
    batches,
    check_call,
    execute_call,
    is_safe_beside_others,
    reconcile_call,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq._clock import Clock
    from agentq.decide import PlannedCall, RunCalls
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.toolbox import Toolbox
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart, ToolResultPart
    from agentq.runs import RunState
    from agentq.steps import Effect, Verdict
    from agentq.tools.behaviour import OnInterrupt


logger = logging.getLogger(__name__)
# `act_within_s` is a third of a lease.
_LEASE_IN_ACTS = 3


class Calls:
    """The calls of one iteration. `steps` is what the journal knows of them. `act_within_s`: see `_announce`."""

    def __init__(
        self,
        run: RunState,
        agent: Agent,
        toolbox: Toolbox,
        steps: Mapping[str, CallStep],
        writer: StepWriter,
        interrupts: Interrupts,
        *,
        clock: Clock,
        act_within_s: float,
        max_result_chars: int,
    ) -> None:
        self.steps = dict(steps)
        self.toolbox = toolbox
        self.made = 0
        # Calls that only read, and of which viewers know.
        self._told: set[str] = set()
        # Planned calls without a result; where others come after them, a number that never gets to 0.
        self._left = -1
        self._run = run
        self._agent = agent
        self._writer = writer
        self._interrupts = interrupts
        self._clock = clock
        self._act_within_s = act_within_s
        self._max_result_chars = max_result_chars

    def effect_of(self, call: ToolCallPart) -> Effect:
        """A call that will never enter a tool (there is none, or no arguments) has no effect."""
        tool = self.toolbox.named(call.name)
        return "none" if tool is None or call.arguments_error is not None else tool.effect

    @property
    def had_effects(self) -> bool:
        """Whether a call with an effect was begun, by this worker or one before it."""
        return any(step.effect != "none" for step in self.steps.values())

    async def settle(self, call: ToolCallPart) -> None:
        """Journal what became of a call that had started when its worker died, as far as anybody knows."""
        step, tool = self.steps[call.call_id], self.toolbox.named(call.name)
        if tool is None:
            await self._journal(unknown_result(call), step.model_copy(update={"result": unknown_result(call)}), 0)
            return
        flag = threading.Event()
        found = await self._interrupts.run(
            reconcile_call(tool, call, self._context(call, step.attempt, flag)), "none", flag
        )
        if isinstance(found, CallOutcome):
            result = self._within_limit(found.result)
            await self._journal(result, step.model_copy(update={"result": result}), found.duration_ms)
        elif found is Reconciled.UNKNOWN and tool.on_unknown == "tell":
            await self._journal(unknown_result(call), step.model_copy(update={"result": unknown_result(call)}), 0)
        elif found is not None:
            verdict: Verdict = "ask" if found is Reconciled.UNKNOWN else "did_not_happen"
            step = step.model_copy(update={"verdict": verdict})
            await self._writer.write([StepRecord(call.call_id, encode_call_step(step))])
            self.steps[call.call_id] = step

    async def make(self, decision: RunCalls) -> None:
        """Make the planned calls: neighbours that are safe at once, any other alone. Stops at an interrupt."""
        self._left = len(decision.calls) if decision.is_rest else -1
        planned = {plan.call.call_id: plan for plan in decision.calls}
        for group in batches([plan.call for plan in decision.calls], self._is_safe):
            if self._interrupts.current is not None:
                return
            if len(group) == 1:
                await self._make_one(planned[group[0].call_id])
            else:
                await self._make_together([planned[call.call_id] for call in group])

    async def _make_together(self, plans: Sequence[PlannedCall]) -> None:
        """Make calls, so many at once; if one raises (the lease is lost), wait for the others before raising it."""
        slots = asyncio.Semaphore(self._agent.max_parallel)

        async def in_slot(plan: PlannedCall) -> None:
            async with slots:
                if self._interrupts.current is None:
                    await self._make_one(plan)

        results = await asyncio.gather(*map(in_slot, plans), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _is_safe(self, call: ToolCallPart) -> bool:
        return is_safe_beside_others(self.toolbox.named(call.name), call)

    async def _make_one(self, plan: PlannedCall) -> None:
        call = plan.call
        step = CallStep(attempt=plan.attempt, effect=plan.effect, arguments_hash=arguments_hash(call))
        called = ToolCalled(call_id=call.call_id, name=call.name, arguments=call.arguments, attempt=plan.attempt)
        flag = threading.Event()
        arguments: dict[str, Any] | None = None
        stands = self.steps.get(call.call_id)
        was_begun = stands is not None and stands.may_have_happened
        tool = self.toolbox.named(call.name)
        if tool is not None and tool.behaviour.has_checks:
            checked = await self._interrupts.run(
                check_call(tool, call, self._context(call, plan.attempt, flag), was_permitted=was_begun), "none", flag
            )
            if checked is None:
                return
            if isinstance(checked, CallOutcome):
                await self._take(plan, step, checked, was_begun=was_begun)
                return
            arguments = checked
        if plan.effect == "none":
            start_by = await self._look_alive(called)
        else:
            announced = await self._announce(call, step, called)
            if announced is None:
                return
            start_by = announced
        try:
            outcome = await self._interrupts.run(
                self._execute(plan, flag, start_by, arguments), plan.effect, flag, on_cancel=self._on_cancel(call)
            )
        except CallWithdrawn:
            await self._withdraw(call, step)
            return
        if outcome is not None:
            await self._take(plan, step, outcome, was_begun=was_begun)

    async def _take(self, plan: PlannedCall, step: CallStep, outcome: CallOutcome, *, was_begun: bool) -> None:
        """Keep what came of a call. `was_begun`: an earlier worker may have made it."""
        self.made += 1
        self._left -= 1
        result = self._within_limit(outcome.result)
        if was_begun and not outcome.entered:
            # The tool is gone, takes other arguments or refuses them now: what the earlier attempt did stands.
            logger.warning(
                "%s is not called again, so nobody knows what became of it: %s",
                plan.call.name,
                result.content,
                extra={"run_id": self._run.run_id, "call_id": plan.call.call_id},
            )
            result = unknown_result(plan.call)
        finished = step.model_copy(update={"result": result, "raised": outcome.raised})
        if self._left == 0 and plan.effect == "none":
            self._writer.emit(_finished_event(result, outcome.duration_ms))
            self.steps[result.call_id] = finished
        else:
            await self._journal(result, finished, outcome.duration_ms)

    def _within_limit(self, result: ToolResultPart) -> ToolResultPart:
        """A result that is too large to be stored is cut: the call has been made, so it must not fail for that."""
        tool = self.toolbox.named(result.name)
        limit, total = self._max_result_chars, len(result.content)
        if tool is not None and tool.behaviour.max_result_chars is not None:
            limit = min(limit, tool.behaviour.max_result_chars)
        if total <= limit:
            return result
        notice = f"[Truncated: {total} chars total, showing first {limit}]"
        return result.model_copy(update={"content": f"{result.content[:limit]}\n{notice}"})

    async def _look_alive(self, called: ToolCalled) -> float:
        """Tell viewers of a call that only reads; until when it may start, by our own clock.

        A worker that was held up for long may have lost its lease, so it asks before it starts anything.
        """
        if self._clock.monotonic() - self._writer.confirmed_at >= self._act_within_s:
            await self._writer.write((), [called])
        elif called.call_id not in self._told:
            self._writer.emit(called)
        self._told.add(called.call_id)
        return self._writer.confirmed_at + _LEASE_IN_ACTS * self._act_within_s

    async def _announce(self, call: ToolCallPart, step: CallStep, called: ToolCalled) -> float | None:
        """Journal that a call with an effect starts; until when it may, by our own clock, or None for not at all.

        A worker that was held up since it asked may have lost its lease without knowing, so it asks again.
        """
        events = [called]
        while self._interrupts.current is None:
            sent_at = self._clock.monotonic()
            try:
                await self._writer.write([StepRecord(call.call_id, encode_call_step(step), starts_effect=True)], events)
            except CancelRequested:
                self._interrupts.stop(Interrupt.CANCEL)
                break
            self.steps[call.call_id] = step
            if self._interrupts.current is None and self._clock.monotonic() - sent_at < self._act_within_s:
                return sent_at + self._act_within_s
            # Another record than the one that stands, or the store would let it pass after a cancel too.
            step = step.model_copy(update={"asked": (step.asked or 1) + 1})
            events = []
        await self._withdraw(call, step)
        return None

    async def _withdraw(self, call: ToolCallPart, step: CallStep) -> None:
        """Journal that an announced call was not made, so that nobody takes its outcome for unknown.

        What an earlier attempt began stays as it is: that one may have been made.
        """
        stands = self.steps.get(call.call_id)
        if stands is not None and stands.attempt == step.attempt and self._interrupts.current is not Interrupt.LOSE:
            withdrawn = stands.model_copy(update={"withdrawn": True})
            await self._writer.write([StepRecord(call.call_id, encode_call_step(withdrawn))])
            self.steps[call.call_id] = withdrawn

    def _on_cancel(self, call: ToolCallPart) -> OnInterrupt:
        tool = self.toolbox.named(call.name)
        return "cancel" if tool is None else tool.interrupt

    def _context(self, call: ToolCallPart, attempt: int, flag: threading.Event) -> ToolContext:
        event_loop = asyncio.get_running_loop()

        def report(message: str, fraction: float | None) -> None:
            message = _json.storable(message)
            event = ToolProgress(call_id=call.call_id, name=call.name, message=message, fraction=fraction)
            event_loop.call_soon_threadsafe(self._writer.emit, event)

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

    async def _execute(
        self, plan: PlannedCall, flag: threading.Event, start_by: float, arguments: dict[str, Any] | None
    ) -> CallOutcome:
        call = plan.call

        def may_start() -> bool:
            """A call that waited for a thread may come too late, after a cancel or by the clock."""
            return self._interrupts.current is None and self._clock.monotonic() < start_by

        tool = self.toolbox.named(call.name)
        ctx = self._context(call, plan.attempt, flag)
        return await execute_call(
            tool,
            call,
            ctx,
            known=self.toolbox.names,
            may_start=may_start,
            arguments=arguments,
            may_retry=lambda: self._interrupts.current is None,
        )

    async def _journal(self, result: ToolResultPart, step: CallStep, duration_ms: int) -> None:
        record = StepRecord(result.call_id, encode_call_step(step))
        await self._writer.write([record], [_finished_event(result, duration_ms)])
        self.steps[result.call_id] = step


def _finished_event(result: ToolResultPart, duration_ms: int) -> ToolFinished | ToolFailed:
    if result.outcome == "ok":
        return ToolFinished(call_id=result.call_id, name=result.name, content=result.content, duration_ms=duration_ms)
    return ToolFailed(
        call_id=result.call_id,
        name=result.name,
        content=result.content,
        outcome=result.outcome,
        duration_ms=duration_ms,
    )
