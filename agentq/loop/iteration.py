"""One iteration of a claimed run: decide, call the model, run tools, commit; and how it is interrupted."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agentq.decide import Ask, Await, CallModel, Failure, Finish, Hold, RunCalls, Settle, View, decide
from agentq.errors import (
    LeaseLost,
    RunNotFound,
    StoreCorrupted,
    StoreUnavailable,
)
from agentq.events.model import IterationStarted, ReplyCompleted, RunDelayed, RunReleased, RunWaiting
from agentq.loop.answering import question_about
from agentq.loop.asking import Asking
from agentq.loop.briefing import briefing_of
from agentq.loop.calls import Calls
from agentq.loop.failing import failure_of
from agentq.loop.finishing import TimesToLive, commit_of, turn_events
from agentq.loop.interrupts import Interrupt, Interrupts
from agentq.loop.limiting import Limiting, resting_at
from agentq.loop.losses import Losses, report_loss
from agentq.loop.toolbox import NO_TOOLS, Toolbox
from agentq.loop.waking import wake_or_leave
from agentq.loop.writer import StepWriter, patiently
from agentq.messages import Message, ReasoningPart, StopReason, Usage, encode_message
from agentq.runs import LIMIT, TIMER, Question, Status
from agentq.steps import REPLY, Steps, read_steps
from agentq.stores.base import Rest, StepRecord

if TYPE_CHECKING:
    from agentq.decide import Decision
    from agentq.loop.admission import PutOff
    from agentq.loop.agent import Agent
    from agentq.loop.loop import Loop
    from agentq.messages import ToolCallPart
    from agentq.stores.base import Claim, EventBatch, Lease

logger = logging.getLogger(__name__)
OutcomeKind = Literal["committed", "released", "lost", "failed_to_store"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an iteration ended. `status` is what the run has now, None where this worker does not know.

    `had_effects`: a call with an effect was begun in it, under `lease`.
    """

    run_id: str
    agent: str
    kind: OutcomeKind
    status: Status | None
    iteration: int
    duration_ms: int
    tools: int = 0
    usage: Usage = field(default_factory=Usage)
    error: str | None = None
    lease: Lease | None = None
    had_effects: bool = False


class Iteration:
    """Advances one claimed run by one iteration. `run` once; the interrupts may come at any time from the same loop."""

    def __init__(self, loop: Loop, agent: Agent, claim: Claim) -> None:
        self._loop = loop
        self._agent = agent
        self._claim = claim
        self._run = claim.run
        self._failure: Failure | None = None
        self._partial: Message | None = None
        self._started = loop.clock.monotonic()
        self._interrupts = Interrupts()
        self._losses = Losses(claim.lease, self._interrupts)
        self._limiting = Limiting(agent, claim.run, loop.clock, self._interrupts)
        self._writer = StepWriter(
            loop.store,
            claim.lease,
            clock=loop.clock,
            coalescing=loop.coalescing,
            on_lost=self._losses.refused,
        )
        self._unreadable: str | None = None
        steps = self._read_steps()
        self._reply = steps.reply
        self._reply_is_journaled = steps.reply is not None
        self._toolbox = agent.toolbox(claim.run)
        self._budgets = loop.budgets(agent)
        self._policy = loop.policy(agent, claim.run, self._writer)
        self._briefing = briefing_of(loop, agent, claim, self._writer, self._interrupts, self._policy)
        self._calls = Calls(
            claim.run,
            agent,
            self._toolbox or NO_TOOLS,
            steps.calls,
            claim.journal,
            self._writer,
            self._interrupts,
            loop,
            self._policy,
        )

    def _read_steps(self) -> Steps:
        try:
            return read_steps(self._claim.journal)
        except StoreCorrupted as error:
            self._unreadable = str(error)
            return Steps()

    # --- interrupts

    def cancel(self) -> None:
        """The run was cancelled: stop the model and what only reads, let effects that have begun finish."""
        self._interrupts.stop(Interrupt.CANCEL)

    def lose(self) -> None:
        """The lease is lost: stop everything at once and write nothing more."""
        if self._interrupts.stop(Interrupt.LOSE):
            self._writer.close()

    def hand_back(self, *, force: bool = False) -> None:
        """The worker shuts down: start nothing more, stop what may be repeated (with `force` all), release the run."""
        self._interrupts.stop(Interrupt.HAND_BACK_NOW if force else Interrupt.HAND_BACK)

    @property
    def must_not_repeat(self) -> bool:
        """Whether a tool is running whose effect must not happen twice."""
        return self._interrupts.must_not_repeat

    def _is_lost(self) -> bool:
        return self._interrupts.current is Interrupt.LOSE

    # --- the iteration

    async def run(self) -> Outcome:
        """Advance the run. Returns how it ended; raises only what is a bug."""
        lease = self._claim.lease
        self._writer.emit(IterationStarted(iteration=self._run.iteration + 1, worker=lease.owner, fence=lease.fence))
        try:
            await self._limiting.start(self._loop.store, self._is_lost)
            return await self._advance()
        except (LeaseLost, RunNotFound) as error:
            self._losses.note(error)
            return self._outcome("lost", None, str(error))
        except StoreUnavailable as error:
            return self._outcome("failed_to_store", None, str(error))
        finally:
            await self._limiting.stop()
            await self._calls.void()
            self._writer.close()
            if self._losses.has_lost_data:
                await report_loss(
                    self._loop.store,
                    self._claim.lease,
                    unsure=self._calls.had_effects,
                    committed=self._claim.run.committed,
                )

    async def _advance(self) -> Outcome:
        if self._unreadable is not None:
            # Nobody can go on from here, and nobody should try for ever. The journal stays for who looks into it.
            state = self._run
            return await self._commit(Finish(Status.FAILED, (), state.iteration, state.errors, reason=self._unreadable))
        while True:
            if self._is_lost():
                return self._outcome("lost", None, "the lease was lost")
            if self._interrupts.current is Interrupt.CANCEL and not self._run.is_cancel_requested:
                await self._see_cancel()
            if self._reply is not None and self._toolbox is None and not self._is_to_stop():
                await self._find_tools()
                continue
            outcome = await self._do(decide(self._view()))
            if outcome is not None:
                return outcome

    async def _do(self, decision: Decision) -> Outcome | None:
        """Carry out a decision; the outcome of the iteration if that was the last one."""
        interrupt = self._interrupts.current
        match decision:
            case Finish():
                return await self._commit(decision)
            case CallModel() | RunCalls() if interrupt is None:
                return await self._go_on(decision)
            case Ask():
                return await self._rest(decision.call)
            case Hold():
                batch = self._writer.last_batch(await self._writer.leave(), ())
                return await self._hand_back(batch, resting_at(decision.reached, self._run))
            case _ if interrupt is not None and interrupt.hands_back:
                return await self._release()
            case CallModel() | RunCalls():
                return await self._go_on(decision)
            case Settle():
                await self._calls.settle(decision.call)
            case Await():
                rest = await self._calls.collect(decision.calls)
                if rest is not None:
                    return await self._hand_back(self._writer.last_batch(await self._writer.leave(), ()), rest)
        return None

    async def _go_on(self, decision: CallModel | RunCalls) -> Outcome | None:
        if isinstance(decision, CallModel):
            await self._call_model()
            return None
        await self._calls.make(decision)
        if self._calls.put_off is not None and self._interrupts.current is None:
            return await self._put_off(self._calls.put_off)
        return None

    def _view(self) -> View:
        return View(
            self._run,
            self._claim.messages,
            Steps(self._reply, self._calls.steps),
            self._budgets,
            self._calls.effect_of,
            self._failure,
            self._partial,
            None if self._agent.output is None else self._agent.output.problem,
            self._calls.is_safe,
            self._calls.is_ready,
            self._limiting.standing(),
        )

    def _is_to_stop(self) -> bool:
        return self._interrupts.current is not None or self._run.is_cancel_requested

    async def _find_tools(self) -> Toolbox | None:
        """Ask for the tools of this iteration; None when an interrupt stopped that."""
        found = await self._interrupts.run(self._agent.find_tools(self._run), "none")
        if found is not None:
            self._toolbox = self._calls.toolbox = found
        return found

    async def _see_cancel(self) -> None:
        """Read the cancel that somebody told us of; it may be a rumour, then the iteration goes on."""
        run = await patiently(lambda: self._loop.store.read(self._run.run_id), self._loop.clock, self._is_lost)
        self._run = dataclasses.replace(self._run, cancel_reason=run.cancel_reason, signals=run.signals)
        if not run.is_cancel_requested:
            self._interrupts.forget_cancel()
            self._partial = None
            if self._reply is None:
                await self._writer.void_reply("restarted")
        else:
            self._partial = await self._policy.left(self._partial)

    # --- the model

    async def _call_model(self) -> None:
        toolbox = self._toolbox or await self._find_tools()
        if toolbox is None:
            return
        if toolbox.problem is not None:
            self._failure = Failure(toolbox.problem)
            return
        asking = Asking(self._loop, self._agent, self._calls, self._briefing, self._run, self._writer, self._policy)
        try:
            reply = await self._interrupts.run(asking.reply(), "none")
        except (LeaseLost, RunNotFound, StoreUnavailable):
            raise  # no fault of the turn
        except Exception as error:  # noqa: BLE001 - a provider of a user may raise anything
            self._failure = failure_of(error, self._run.run_id)
        else:
            if reply is None:
                self._partial = asking.partial()
                return
            self._reply = reply
            if reply.tool_calls:
                await self._journal(reply)

    async def _journal(self, reply: Message) -> None:
        await self._writer.journal_reply(StepRecord(REPLY, encode_message(reply)), self._reply_event(reply))
        self._reply_is_journaled = True

    def _reply_event(self, reply: Message) -> ReplyCompleted:
        return ReplyCompleted(
            turn=self._run.turn + 1,
            text=reply.text,
            reasoning="".join(part.text for part in reply.parts if isinstance(part, ReasoningPart)),
            stop_reason=reply.stop_reason or StopReason.END,
            usage=reply.usage,
            model=reply.model,
        )

    # --- the end

    async def _commit(self, finish: Finish) -> Outcome:
        loop, lease = self._loop, self._claim.lease
        if self._reply is not None and not self._reply_is_journaled and self._briefing.is_slow_to_end(finish):
            await self._journal(self._reply)
        has_more = self._reply_is_journaled or bool(self._calls.steps) or self._unreadable is not None
        finish = self._briefing.kept(finish, journal_stays=has_more)
        changes = await self._briefing.changes(finish)
        reply = self._reply or self._partial
        if reply is not None and reply in finish.messages and not self._reply_is_journaled:
            events, replaced = await self._writer.complete_reply(self._reply_event(reply))
        else:
            events, replaced = await self._writer.give_up_reply(finish.note or finish.status)
        events += turn_events(
            finish,
            self._run,
            told=frozenset(call_id for call_id, step in self._calls.steps.items() if step.result is not None),
            max_error_retries=self._agent.max_error_retries,
            duration_ms=self._elapsed_ms(),
        )
        stays = self._reply_is_journaled and not finish.messages
        commit = commit_of(
            finish,
            self._run,
            self._claim.messages,
            self._writer.last_batch(events, replaced),
            # A journaled reply that no message of the commit holds stays in the journal, for a retry to go on from.
            reply=None if stays else self._reply,
            left=self._reply if stays else None,
            ttl=TimesToLive(self._run.ttl_ms, self._agent.ttl_ms, loop.settings),
            is_journaled=self._reply_is_journaled,
            changes=changes,
            meters=self._limiting.meters,
        )
        committed = await patiently(
            lambda: loop.store.commit(lease, commit, wake=loop.wakeup), loop.clock, self._is_lost
        )
        if committed.next_run_id is not None and not committed.woken:
            await wake_or_leave(loop, committed.next_run_id, commit.delay_ms)
        if committed.parent_run_id is not None:
            await wake_or_leave(loop, committed.parent_run_id)
        if committed.status is finish.status:
            await self._policy.ended(finish.status, commit.closing)
        return self._outcome("committed", committed.status, finish.reason)

    async def _release(self) -> Outcome:
        events = await self._writer.leave()
        batch = self._writer.last_batch((*events, RunReleased(worker=self._claim.lease.owner)), ())
        return await self._hand_back(batch)

    async def _rest(self, call: ToolCallPart) -> Outcome:
        """Leave the run to whoever answers what became of the call."""
        question = question_about(call, self._calls.steps[call.call_id])
        waiting = RunWaiting(
            call_id=call.call_id, name=call.name, text=question.text, arguments=dict(question.arguments)
        )
        batch = self._writer.last_batch(await self._writer.leave(), ())
        return await self._hand_back(batch, Rest((question,), self._run.signals, (waiting,)))

    async def _put_off(self, put_off: PutOff) -> Outcome:
        """Hand the run back until a call may be made: nobody waits for it in a worker."""
        wait_ms = math.ceil(put_off.wait_s * 1000)
        question = Question(call_id=put_off.call.call_id, tool=put_off.call.name, text=put_off.why, kind=LIMIT)
        delayed = RunDelayed(reason=put_off.why, delay_ms=wait_ms)
        batch = self._writer.last_batch(await self._writer.leave(), ())
        return await self._hand_back(batch, Rest((question,), self._run.signals, (delayed,), within_ms=wait_ms))

    async def _hand_back(self, batch: EventBatch, rest: Rest | None = None) -> Outcome:
        loop, lease = self._loop, self._claim.lease
        rest = rest and self._limiting.bounded(rest)
        released = await patiently(
            lambda: loop.store.release(lease, batch, wake=loop.wakeup, rest=rest), loop.clock, self._is_lost
        )
        if released.status is Status.QUEUED and not released.woken:
            await wake_or_leave(loop, self._run.run_id)
        elif rest is not None and rest.within_ms and loop.wakeup is None and _has_a_time(rest):
            # Where the store's own scripts write no wake-ups, sweeps may be somebody else's.
            await wake_or_leave(loop, self._run.run_id, rest.within_ms)
        return self._outcome("released", released.status)

    def _elapsed_ms(self) -> int:
        return int((self._loop.clock.monotonic() - self._started) * 1000)

    def _used(self) -> Usage:
        usage = (self._reply.usage if self._reply is not None else None) or Usage()
        return usage if self._briefing.usage is None else usage + self._briefing.usage

    def _outcome(self, kind: OutcomeKind, status: Status | None, error: str | None = None) -> Outcome:
        return Outcome(
            self._run.run_id,
            self._run.agent,
            kind,
            status,
            self._run.iteration + 1,
            self._elapsed_ms(),
            self._calls.made,
            self._used(),
            error,
            self._claim.lease,
            self._calls.had_effects,
        )


def _has_a_time(rest: Rest) -> bool:
    """Whether the run goes on by itself."""
    return any(each.kind in (LIMIT, TIMER) for each in rest.questions)
