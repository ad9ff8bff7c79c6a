"""Making the tool calls of one reply: announced where they have an effect, run, journaled one by one.

The last result needs no write of its own if the call only read and gave no file: the commit follows at once, and takes
it along.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from typing import TYPE_CHECKING, Any

from agentq import _ids
from agentq.decide import PlannedCall, unknown_result
from agentq.errors import CancelRequested, RunNotFound
from agentq.events.model import ToolCalled
from agentq.loop.announcing import Announcing
from agentq.loop.contexts import Contexts
from agentq.loop.detours import Detours
from agentq.loop.durable import Parts
from agentq.loop.early import EarlyCalls
from agentq.loop.gates import Passed, concerned
from agentq.loop.interrupts import Interrupt, Siblings
from agentq.loop.keeping import NO_FILES, Keeping
from agentq.steps import CallStep, Wait, arguments_hash
from agentq.tools.batching import batches, discarded, is_safe_beside_others
from agentq.tools.durable import Rested
from agentq.tools.execution import CallOutcome, CallWithdrawn, execute_call

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from agentq.decide import RunCalls
    from agentq.loop.admission import PutOff
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.toolbox import Toolbox
    from agentq.loop.writer import StepWriter
    from agentq.messages import ToolCallPart
    from agentq.runs import RunState
    from agentq.steps import Effect
    from agentq.stores.base import Rest
    from agentq.tools.function import Tool


logger = logging.getLogger(__name__)


class Calls:
    """The calls of one iteration. `steps` is what the journal knows of them.

    Its parts do not know it: they would keep each other alive, and with them the transcript, until Python looks for
    cycles.
    """

    def __init__(
        self,
        run: RunState,
        agent: Agent,
        toolbox: Toolbox,
        steps: Mapping[str, CallStep],
        journal: Mapping[str, bytes],
        writer: StepWriter,
        interrupts: Interrupts,
        loop: Loop,
        policy: Policy,
    ) -> None:
        self.steps = dict(steps)
        self.toolbox = toolbox
        self.made = 0
        # A call that may be made later: the first of those that may not be made now.
        self.put_off: PutOff | None = None
        # Planned calls without a result; where others come after them, a number that never gets to 0.
        self._left = -1
        self._run = run
        self._agent = agent
        self._writer = writer
        self._interrupts = interrupts
        self._clock = loop.clock
        self._settings = loop.settings
        self._slots = asyncio.Semaphore(agent.max_parallel)
        # Calls that run beside each other now.
        self._siblings = Siblings()
        self._safe: dict[str, bool] = {}
        self._early = EarlyCalls(self._slots, writer.emit)
        self._announcing = Announcing(self.steps, writer, interrupts, loop.clock, loop.settings.lease_ms / 3000)
        self._keeping = Keeping(self.steps, writer, loop.settings.max_value_bytes)
        self._parts = Parts(loop, run, journal, writer)
        self._policy = policy
        self._contexts = Contexts(loop, run, writer, self._early.report, self._parts)
        self._detours = Detours(
            loop, run, writer, interrupts, policy, self.steps, self._parts, self._keeping, self._contexts
        )

    def effect_of(self, call: ToolCallPart) -> Effect:
        """A call that will never enter a tool (there is none, or no arguments) has no effect."""
        tool = self.toolbox.named(call.name)
        return "none" if tool is None or call.arguments_error is not None else tool.effect

    @property
    def had_effects(self) -> bool:
        """Whether a call with an effect was begun."""
        return any(step.effect != "none" for step in self.steps.values())

    async def settle(self, call: ToolCallPart) -> None:
        """Journal what became of a call that had started when its worker died, as far as anybody knows."""
        await self._detours.settling.settle(call, self.toolbox.named(call.name))

    # --- while the model still streams

    def begin(self, call: ToolCallPart) -> None:
        """The model has finished asking for a call, and goes on with its reply: start it, if it only reads."""
        self._early.offer(call, self._may_start_early, self._make_early)

    async def void(self) -> None:
        """What was begun belongs to a reply that is void."""
        await self._early.drop()
        self._siblings, self._safe = Siblings(), {}

    def _may_start_early(self, call: ToolCallPart) -> bool:
        tool = self.toolbox.named(call.name)
        return (
            tool is not None
            and tool.effect == "none"
            and call.arguments_error is None
            and not concerned(tool, self._policy)
            and self._interrupts.current is None
            and self.is_safe(call)
        )

    async def _make_early(self, call: ToolCallPart) -> CallOutcome | None:
        self._parts.hold(call.call_id)
        await self._contexts.prepare(self.toolbox.named(call.name))
        try:
            return await self._run_tool(
                PlannedCall(call, 1, "none"), threading.Event(), self._announcing.start_by, None
            )
        except CallWithdrawn:
            return None

    # --- when the reply is there

    async def make(self, decision: RunCalls) -> None:
        """Make the planned calls: neighbours that are safe at once, any other alone. Stops at an interrupt."""
        self._left = len(decision.calls) if decision.is_rest else -1
        planned = {plan.call.call_id: plan for plan in decision.calls}
        for plan in decision.calls:
            await self._contexts.prepare(self.toolbox.named(plan.call.name))
        made: list[str] = []
        for group in batches([plan.call for plan in decision.calls], self.is_safe):
            if self._interrupts.current is not None or (self._have_come_to_rest(made) and not self.is_safe(group[0])):
                return
            made += [call.call_id for call in group]
            if self.put_off is not None:
                return
            if len(group) == 1:
                await self._make_one(planned.pop(group[0].call_id))
                self._siblings = Siblings()
            else:
                await self._make_together([planned.pop(call.call_id) for call in group])

    async def _make_together(self, plans: Sequence[PlannedCall]) -> None:
        """Make calls, so many at once; if one raises (the lease is lost), wait for the others before raising it."""

        async def in_slot(plan: PlannedCall) -> None:
            if self._early.has(plan.call.call_id):
                await self._make_one(plan)
                return
            async with self._slots:
                if self._interrupts.current is None:
                    await self._make_one(plan)

        results = await asyncio.gather(*map(in_slot, plans), return_exceptions=True)
        self._siblings = Siblings()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def is_safe(self, call: ToolCallPart) -> bool:
        """Judged once, when the call is first looked at."""
        if call.call_id not in self._safe:
            self._safe[call.call_id] = is_safe_beside_others(self.toolbox.named(call.name), call)
        return self._safe[call.call_id]

    def _have_come_to_rest(self, made: Collection[str]) -> bool:
        """Whether a call before the next one rests; those after it may, too, and do not hold it up."""
        return any(self.steps[call_id].rests for call_id in made if call_id in self.steps)

    async def _make_one(self, plan: PlannedCall) -> None:
        """Bring one call as far as it comes: to its result, to a rest, or to where an interrupt stops it."""
        stands = self.steps.get(plan.call.call_id)
        was_begun = stands is not None and stands.may_have_happened
        step = CallStep(attempt=plan.attempt, effect=plan.effect, arguments_hash=arguments_hash(plan.call))
        flag = threading.Event()
        if self._is_stopped(plan.call):
            await self._discard(plan, step, may_have_happened=was_begun)
            return
        tool = self.toolbox.named(plan.call.name) if plan.call.arguments_error is None else None
        arguments: Mapping[str, Any] | None = None
        if tool is not None and concerned(tool, self._policy):
            passed = await self._detours.gates.ask(plan, tool, flag, was_begun=was_begun)
            if not isinstance(passed, Passed):
                await self._stop_at_gate(plan, step, passed, was_begun=was_begun)
                return
            plan, arguments = dataclasses.replace(plan, call=passed.call), passed.arguments
        call = plan.call
        called = ToolCalled(call_id=call.call_id, name=call.name, arguments=call.arguments, attempt=plan.attempt)
        if tool is not None and tool.agent is not None:
            await self._start_child(plan, step, called, tool)
            return
        start_by = await self._announce(plan, step, called, stands)
        if start_by is not None:
            await self._enter(plan, step, flag, start_by, arguments, was_begun=was_begun)

    async def _announce(
        self, plan: PlannedCall, step: CallStep, called: ToolCalled, stands: CallStep | None
    ) -> float | None:
        """Say that the call starts; until when it may, or None for not now."""
        wait = stands.waits if stands is not None else None
        # It may have rested, and is entered again with what it waited for; unless another call has taken that.
        resolved = [] if wait is None else await self._parts.resolution(plan.call.call_id, wait)
        if resolved is None:
            return None
        start_by = await self._announcing.begin(plan.call, step, called, resolved)
        for record in resolved:
            self._parts.note(record)
        return start_by

    async def _enter(
        self,
        plan: PlannedCall,
        step: CallStep,
        flag: threading.Event,
        start_by: float,
        arguments: Mapping[str, Any] | None,
        *,
        was_begun: bool,
    ) -> None:
        call = plan.call
        try:
            outcome = await self._made_early(call) or await self._run_tool(plan, flag, start_by, arguments)
        except CallWithdrawn:
            await self._announcing.withdraw(call, step)
            return
        except Rested as rested:
            await self._detours.waits.begin(call, step, rested.wait)
            return
        if outcome is not None:
            await self._take(plan, step, outcome, was_begun=was_begun)
            tool = self.toolbox.named(call.name)
            if tool is not None and tool.behaviour.breaker is not None:
                await self._detours.admission.tell(tool, call, outcome)
        elif self._interrupts.current is None and self._is_stopped(call):
            await self._discard(plan, step, may_have_happened=plan.effect != "none")

    async def _stop_at_gate(
        self, plan: PlannedCall, step: CallStep, stop: CallOutcome | PutOff | Wait | None, *, was_begun: bool
    ) -> None:
        """The call is not made now: it has a result in its place, rests, or the run is put off."""
        if isinstance(stop, CallOutcome):
            await self._take(plan, step, stop, was_begun=was_begun)
        elif isinstance(stop, Wait):
            await self._detours.waits.begin(plan.call, step, stop)
        elif stop is not None and (self.put_off is None or stop.wait_s < self.put_off.wait_s):
            self.put_off = stop

    async def _start_child(self, plan: PlannedCall, step: CallStep, called: ToolCalled, tool: Tool) -> None:
        """Start the run whose work the call is. Its result comes when that run has ended; see `collect`."""
        call = plan.call
        fit = self._detours.children.arguments_of(call, tool)
        if isinstance(fit, CallOutcome):
            await self._take(plan, step, fit)
            return
        child = _ids.child_run_id(call.call_id)
        step = step.model_copy(update={"child": child})
        if await self._announcing.announce(call, step, called.model_copy(update={"child_run_id": child})) is None:
            return
        try:
            await self._detours.children.start(call, tool.agent, fit)
        except CancelRequested:
            self._interrupts.stop(Interrupt.CANCEL)
        except RunNotFound:
            await self._keeping.give_up(call, step)

    def is_ready(self, call: ToolCallPart) -> bool:
        """Whether what it waits for has come."""
        return self._parts.is_ready(call.call_id, self.steps[call.call_id])

    async def collect(self, calls: Sequence[ToolCallPart]) -> Rest | None:
        """Look whether what resting calls wait for has come; how the run rests if nothing has, and nothing stops it."""
        try:
            rest, taken = await self._detours.collecting.look(calls, self.toolbox)
        except CancelRequested:
            self._interrupts.stop(Interrupt.CANCEL)
            return None
        self.made += taken
        return rest

    async def _made_early(self, call: ToolCallPart) -> CallOutcome | None:
        """The outcome of a call that was started while the model streamed; None where it was not, or was stopped."""
        early = self._early.take(call)
        self._parts.let(call.call_id)
        if early is None:
            return None
        task, events = early
        for event in events:
            self._writer.emit(event)
        await asyncio.sleep(0)  # viewers see first which calls a reply has, and then what comes of one that is over
        return await task

    async def _run_tool(
        self, plan: PlannedCall, flag: threading.Event, start_by: float, arguments: Mapping[str, Any] | None
    ) -> CallOutcome | None:
        """Enter the tool; None where the call was stopped, or must not start any more."""
        call, siblings = plan.call, self._siblings
        if self._is_stopped(call):
            return None
        tool = self.toolbox.named(call.name)
        outcome = await self._interrupts.run(
            self._execute(plan, flag, start_by, arguments),
            plan.effect,
            flag,
            on_cancel="cancel" if tool is None else tool.interrupt,
            siblings=siblings if self._stops_with_siblings(tool) else None,
        )
        if outcome is not None and outcome.raised:
            siblings.fail(call.name)
        return outcome

    def _stops_with_siblings(self, tool: Tool | None) -> bool:
        return tool is not None and tool.behaviour.stops_with_siblings

    def _is_stopped(self, call: ToolCallPart) -> bool:
        """Whether a call beside it has failed, and it says that it is of no use then."""
        return self._siblings.failed is not None and self._stops_with_siblings(self.toolbox.named(call.name))

    async def _discard(self, plan: PlannedCall, step: CallStep, *, may_have_happened: bool) -> None:
        await self._take(plan, step, discarded(plan.call, self._siblings.failed, may_have_happened=may_have_happened))

    async def _take(self, plan: PlannedCall, step: CallStep, outcome: CallOutcome, *, was_begun: bool = False) -> None:
        """Keep what came of a call. `was_begun`: an earlier worker may have made it."""
        outcome = await self._policy.after_tool(plan.call, outcome)
        self.made += 1
        # After the hook: a call beside this one must not take itself for the last while this one waits.
        self._left -= 1
        tool = self.toolbox.named(plan.call.name)
        result, contents = self._keeping.within_limit(outcome.result, tool), outcome.contents
        if was_begun and not outcome.entered:
            # The tool is gone, takes other arguments or refuses them now: what the earlier attempt did stands.
            logger.warning(
                "%s is not called again, so nobody knows what became of it: %s",
                plan.call.name,
                result.content,
                extra={"run_id": self._run.run_id, "call_id": plan.call.call_id},
            )
            result, contents = unknown_result(plan.call), NO_FILES
        finished = step.model_copy(update={"result": result, "raised": outcome.raised})
        changes = self._contexts.keep(outcome.changes)
        if self._left == 0 and plan.effect == "none" and not changes and not contents:
            # The commit that comes at once takes it along.
            self._keeping.tell(result, finished, outcome.duration_ms)
        else:
            await self._keeping.journal(result, finished, outcome.duration_ms, changes, contents)

    async def _execute(
        self, plan: PlannedCall, flag: threading.Event, start_by: float, arguments: Mapping[str, Any] | None
    ) -> CallOutcome:
        call = plan.call

        def may_start() -> bool:
            """A call that waited for a thread may come too late, after a cancel or by the clock."""
            return self._interrupts.current is None and self._clock.monotonic() < start_by

        tool = self.toolbox.named(call.name)
        return await execute_call(
            tool,
            call,
            self._contexts.of(call, tool, plan.attempt, flag),
            known=self.toolbox.names,
            may_start=may_start,
            arguments=arguments,
            may_retry=lambda: self._interrupts.current is None,
            limits=self._settings,
        )
