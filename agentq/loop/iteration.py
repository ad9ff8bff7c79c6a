"""One iteration of a claimed run: decide, call the model, run tools, commit; and how it is interrupted."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from agentq.decide import CallModel, Failure, Finish, PlannedCall, RunCalls, View, decide
from agentq.errors import AgentQError, CancelRequested, LeaseLost, ProviderError, RunNotFound, StoreUnavailable
from agentq.events.model import (
    IterationStarted,
    ReasoningDelta,
    ReplyCompleted,
    RunReleased,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.loop.finishing import commit_of, turn_events
from agentq.loop.writer import StepWriter, patiently
from agentq.messages import (
    Message,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    encode_message,
)
from agentq.providers.base import ModelRequest, ReasoningChunk, TextChunk
from agentq.providers.reply import ReplyBuilder
from agentq.runs import Status
from agentq.steps import REPLY, CallStep, Effect, Steps, arguments_hash, encode_call_step, read_steps
from agentq.stores.base import Claim, StepRecord
from agentq.tools.context import ToolContext
from agentq.tools.execution import CallOutcome, batches, execute_call

if TYPE_CHECKING:
    from agentq.loop.agent import Agent
    from agentq.loop.loop import Loop

logger = logging.getLogger(__name__)
T = TypeVar("T")
OutcomeKind = Literal["committed", "released", "lost", "failed_to_store"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an iteration ended. `status` is what the run has now, None where this worker does not know."""

    run_id: str
    agent: str
    kind: OutcomeKind
    status: Status | None
    iteration: int
    duration_ms: int
    tools: int = 0
    usage: Usage = Usage()
    error: str | None = None


class Interrupt(IntEnum):
    """Why an iteration stops early. A higher one replaces a lower one."""

    CANCEL = 1
    HAND_BACK = 2
    HAND_BACK_NOW = 3
    LOSE = 4


# Which running tools each interrupt stops, by effect. What goes on is waited for and journaled.
_STOPS: dict[Interrupt, frozenset[Effect]] = {
    Interrupt.CANCEL: frozenset({"none"}),
    Interrupt.HAND_BACK: frozenset({"none", "idempotent"}),
    Interrupt.HAND_BACK_NOW: frozenset({"none", "idempotent", "once"}),
    Interrupt.LOSE: frozenset({"none", "idempotent", "once"}),
}


class Iteration:
    """Advances one claimed run by one iteration. `run` once; the interrupts may come at any time from the same loop."""

    def __init__(self, loop: Loop, agent: Agent, claim: Claim) -> None:
        self._loop = loop
        self._agent = agent
        self._claim = claim
        self._run = claim.run
        steps = read_steps(claim.journal)
        self._reply = steps.reply
        self._calls = dict(steps.calls)
        self._failure: Failure | None = None
        self._partial: Message | None = None
        self._interrupt: Interrupt | None = None
        self._running: dict[asyncio.Task[Any], Effect] = {}
        self._cancel_events: set[threading.Event] = set()
        self._reply_told = self._reply is not None
        self._started = loop.clock.monotonic()
        self._tools = 0
        self._writer = StepWriter(
            loop.store,
            claim.lease,
            clock=loop.clock,
            coalesce_s=loop.settings.coalesce_ms / 1000,
            on_lost=self._on_lost,
        )

    # --- interrupts

    def cancel(self) -> None:
        """The run was cancelled: stop the model and what only reads, let effects that have begun finish."""
        self._stop(Interrupt.CANCEL)

    def lose(self) -> None:
        """The lease is lost: stop everything at once and write nothing more."""
        self._stop(Interrupt.LOSE)

    def hand_back(self, *, force: bool = False) -> None:
        """The worker shuts down: start nothing more, stop what may be repeated (with `force` all), release the run."""
        self._stop(Interrupt.HAND_BACK_NOW if force else Interrupt.HAND_BACK)

    @property
    def must_not_repeat(self) -> bool:
        """Whether a tool is running whose effect must not happen twice."""
        return "once" in self._running.values()

    def _stop(self, interrupt: Interrupt) -> None:
        if self._interrupt is not None and self._interrupt >= interrupt:
            return
        self._interrupt = interrupt
        if interrupt is Interrupt.LOSE:
            self._writer.close()
        if interrupt is not Interrupt.HAND_BACK:
            for event in self._cancel_events:
                event.set()
        for task, effect in self._running.items():
            if effect in _STOPS[interrupt]:
                task.cancel()

    def _on_lost(self, error: Exception) -> None:
        logger.warning(
            "run %s: %s", self._run.run_id, error, extra={"run_id": self._run.run_id, "worker": self._claim.lease.owner}
        )
        self.lose()

    # --- the iteration

    async def run(self) -> Outcome:
        """Advance the run. Returns how it ended; raises only what is a bug."""
        self._writer.emit(
            IterationStarted(
                iteration=self._run.iteration + 1, worker=self._claim.lease.owner, fence=self._claim.lease.fence
            )
        )
        try:
            return await self._advance()
        except (LeaseLost, RunNotFound) as error:
            return self._outcome("lost", None, str(error))
        except StoreUnavailable as error:
            return self._outcome("failed_to_store", None, str(error))
        finally:
            self._writer.close()

    async def _advance(self) -> Outcome:
        while True:
            if self._interrupt is Interrupt.LOSE:
                return self._outcome("lost", None, "the lease was lost")
            if self._interrupt is Interrupt.CANCEL and not self._run.is_cancel_requested:
                await self._see_cancel()
            decision = decide(self._view())
            hands_back = self._interrupt in (Interrupt.HAND_BACK, Interrupt.HAND_BACK_NOW)
            match decision:
                case CallModel() | RunCalls() if hands_back:
                    return await self._release()
                case CallModel():
                    await self._call_model()
                case RunCalls():
                    await self._run_calls(decision)
                case Finish():
                    return await self._commit(decision)

    def _view(self) -> View:
        limits = self._loop.limits(self._agent)
        return View(
            self._run,
            self._claim.messages,
            Steps(self._reply, self._calls),
            limits,
            self._effect_of,
            self._failure,
            self._partial,
        )

    def _effect_of(self, call: ToolCallPart) -> Effect:
        """A call that will never enter a tool (there is none, or no arguments) has no effect."""
        tool = self._agent.tool_named(call.name)
        return "none" if tool is None or call.arguments_error is not None else tool.effect

    async def _see_cancel(self) -> None:
        """Read the cancel that somebody told us of; it may be a rumour, then the iteration goes on."""
        run = await patiently(lambda: self._loop.store.read(self._run.run_id), self._loop.clock, lambda: False)
        self._run = dataclasses.replace(self._run, cancel_reason=run.cancel_reason, signals=run.signals)
        if not run.is_cancel_requested and self._interrupt is Interrupt.CANCEL:
            self._interrupt = None

    async def _interruptible(self, work: Coroutine[Any, Any, T], effect: Effect) -> T | None:
        """Run `work` as a task that an interrupt can stop; None when it was stopped."""
        if self._interrupt is not None:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = effect
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                # Somebody cancelled us, not the work: the process is going down without ceremony.
                task.cancel()
                raise
            return None
        finally:
            del self._running[task]

    # --- the model

    async def _call_model(self) -> None:
        builder = ReplyBuilder()
        self._failure = None
        try:
            reply = await self._interruptible(self._stream(builder), "none")
        except ProviderError as error:
            wait_ms = None if error.retry_after_s is None else int(error.retry_after_s * 1000)
            self._failure = Failure(str(error), error.retryable, wait_ms)
        except AgentQError as error:
            self._failure = Failure(str(error), retryable=False)
        except Exception as error:
            logger.exception("provider of run %s raised", self._run.run_id, extra={"run_id": self._run.run_id})
            self._failure = Failure(f"{type(error).__name__}: {error}")
        else:
            if reply is None:
                self._keep_partial(builder)
                return
            self._reply = reply
            if reply.tool_calls:
                await self._writer.journal_reply(StepRecord(REPLY, encode_message(reply)), self._reply_event(reply))
                self._reply_told = True

    async def _stream(self, builder: ReplyBuilder) -> Message:
        agent = self._agent
        provider, model = self._loop.provider(self._run.model or agent.model)
        request = ModelRequest(
            model,
            self._claim.messages,
            agent.instructions,
            agent.specs,
            agent.model_settings,
            self._run.run_id,
            self._run.session_id,
        )
        async for chunk in provider.stream(request):
            builder.add(chunk)
            if isinstance(chunk, TextChunk):
                if chunk.text:
                    self._writer.emit(TextDelta(text=chunk.text))
            elif isinstance(chunk, ReasoningChunk) and chunk.text:
                self._writer.emit(ReasoningDelta(text=chunk.text))
        return builder.finish(self._run.run_id, self._run.turn + 1)

    def _keep_partial(self, builder: ReplyBuilder) -> None:
        """What the model had said when it was stopped: kept if the run was cancelled, given up otherwise."""
        if not builder.text:
            return
        parts = [ReasoningPart(text=builder.reasoning)] if builder.reasoning else []
        self._partial = Message(
            role=Role.ASSISTANT, parts=(*parts, TextPart(text=builder.text)), stop_reason=StopReason.CANCELLED
        )

    def _reply_event(self, reply: Message) -> ReplyCompleted:
        reasoning = "".join(part.text for part in reply.parts if isinstance(part, ReasoningPart))
        return ReplyCompleted(
            turn=self._run.turn + 1,
            text=reply.text,
            reasoning=reasoning,
            stop_reason=reply.stop_reason or StopReason.END,
            usage=reply.usage,
            model=reply.model,
        )

    # --- tools

    async def _run_calls(self, decision: RunCalls) -> None:
        for result in decision.unknown:
            await self._journal_result(result, CallStep(result=result), 0)
        planned = {plan.call.call_id: plan for plan in decision.calls}
        for group in batches([plan.call for plan in decision.calls], lambda call: planned[call.call_id].effect):
            if self._interrupt is not None:
                return
            if len(group) == 1:
                await self._run_call(planned[group[0].call_id])
            else:
                await _together([self._run_call(planned[call.call_id]) for call in group])

    async def _run_call(self, plan: PlannedCall) -> None:
        call = plan.call
        step = CallStep(attempt=plan.attempt, effect=plan.effect, arguments_hash=arguments_hash(call))
        called = ToolCalled(call_id=call.call_id, name=call.name, arguments=call.arguments, attempt=plan.attempt)
        if plan.effect == "none":
            self._writer.emit(called)
        elif not await self._announce(call, step, called):
            return
        outcome = await self._interruptible(self._execute(plan), plan.effect)
        if outcome is None:
            return
        self._tools += 1
        finished = step.model_copy(update={"result": outcome.result, "raised": outcome.raised})
        await self._journal_result(outcome.result, finished, outcome.duration_ms)

    async def _announce(self, call: ToolCallPart, step: CallStep, called: ToolCalled) -> bool:
        """Journal that a call with an effect starts; whether it still may, by the store and by our own clock."""
        record = StepRecord(call.call_id, encode_call_step(step), starts_effect=True)
        clock = self._loop.clock
        while self._interrupt is None:
            sent_at = clock.monotonic()
            try:
                await self._writer.write([record], [called])
            except CancelRequested:
                self.cancel()
                return False
            self._calls[call.call_id] = step
            # A worker that was held up since it asked may have lost its lease without knowing: it asks again.
            if clock.monotonic() - sent_at < self._loop.settings.lease_ms / 3000:
                return self._interrupt is None
        return False

    async def _execute(self, plan: PlannedCall) -> CallOutcome:
        call, agent = plan.call, self._agent
        event_loop = asyncio.get_running_loop()
        cancel_event = threading.Event()
        self._cancel_events.add(cancel_event)

        def report(message: str, fraction: float | None) -> None:
            event = ToolProgress(call_id=call.call_id, name=call.name, message=message, fraction=fraction)
            event_loop.call_soon_threadsafe(self._writer.emit, event)

        ctx = ToolContext(
            run_id=self._run.run_id,
            call_id=call.call_id,
            session_id=self._run.session_id,
            user_id=self._run.user_id,
            idempotency_key=call.call_id,
            attempt=plan.attempt,
            metadata=self._run.metadata,
            cancel_event=cancel_event,
            report=report,
        )
        try:
            return await execute_call(agent.tool_named(call.name), call, ctx, known=agent.tool_names)
        finally:
            self._cancel_events.discard(cancel_event)

    async def _journal_result(self, result: ToolResultPart, step: CallStep, duration_ms: int) -> None:
        event: ToolFinished | ToolFailed
        if result.outcome == "ok":
            event = ToolFinished(
                call_id=result.call_id, name=result.name, content=result.content, duration_ms=duration_ms
            )
        else:
            event = ToolFailed(
                call_id=result.call_id,
                name=result.name,
                content=result.content,
                outcome=result.outcome,
                duration_ms=duration_ms,
            )
        await self._writer.write([StepRecord(result.call_id, encode_call_step(step))], [event])
        self._calls[result.call_id] = step

    # --- the end

    async def _commit(self, finish: Finish) -> Outcome:
        reply = self._reply or self._partial
        if reply is not None and reply in finish.messages and not self._reply_told:
            events, replaced = await self._writer.complete_reply(self._reply_event(reply))
        else:
            events, replaced = await self._writer.give_up_reply(finish.note or finish.status)
        told = frozenset(call_id for call_id, step in self._calls.items() if step.result is not None)
        events += turn_events(
            finish,
            self._run,
            told=told,
            max_error_retries=self._agent.max_error_retries,
            duration_ms=self._elapsed_ms(),
        )
        commit = commit_of(
            finish,
            self._run,
            self._claim.messages,
            self._writer.last_batch(events, replaced),
            reply=self._reply,
            settings=self._loop.settings,
        )
        loop, lease = self._loop, self._claim.lease
        committed = await patiently(
            lambda: loop.store.commit(lease, commit, wake=loop.wakeup), loop.clock, self._is_lost
        )
        if committed.status is Status.QUEUED and not committed.woken:
            await loop.executor.schedule_next_iteration(lease.run_id, delay=commit.delay_ms / 1000)
        return self._outcome("committed", committed.status, finish.reason)

    async def _release(self) -> Outcome:
        loop, lease = self._loop, self._claim.lease
        events = await self._writer.leave()
        batch = self._writer.last_batch((*events, RunReleased(worker=lease.owner)), ())
        woken = await patiently(
            lambda: loop.store.release(lease, batch, wake=loop.wakeup), loop.clock, self._is_lost
        )
        if not woken:
            await loop.executor.schedule_next_iteration(lease.run_id)
        return self._outcome("released", Status.QUEUED)

    def _is_lost(self) -> bool:
        return self._interrupt is Interrupt.LOSE

    def _elapsed_ms(self) -> int:
        return int((self._loop.clock.monotonic() - self._started) * 1000)

    def _outcome(self, kind: OutcomeKind, status: Status | None, error: str | None = None) -> Outcome:
        return Outcome(
            self._run.run_id,
            self._run.agent,
            kind,
            status,
            self._run.iteration + 1,
            self._elapsed_ms(),
            self._tools,
            self._reply.usage or Usage() if self._reply is not None else Usage(),
            error,
        )


async def _together(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run calls at once; if one raises (the lease is lost), wait for the others before raising it."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
