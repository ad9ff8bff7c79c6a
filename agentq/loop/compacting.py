"""Making the transcript of a run fit: the record of it, the summary that a model writes, and what viewers hear."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentq import _json
from agentq.context.compaction import fitting_summary, with_summary, words_for_dropped
from agentq.context.summary import as_text, instructions_for
from agentq.context.tokens import estimate_tokens
from agentq.context.view import last_record, plan_of, record_of, shown
from agentq.errors import AgentQError, LeaseLost, StoreCorrupted
from agentq.events.model import ContextCompacted, ModelRetried
from agentq.messages import Role, StopReason, Usage, decode_message, encode_message, user_message
from agentq.providers.base import ModelRequest, Retried
from agentq.providers.prices import priced
from agentq.providers.reply import ReplyBuilder, storable
from agentq.steps import PART
from agentq.stores.base import StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq.context.compaction import Compaction, Plan, Strategy
    from agentq.context.view import Measure
    from agentq.decide import Finish
    from agentq.loop.agent import Agent
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.records import Records
    from agentq.loop.writer import StepWriter
    from agentq.messages import Message
    from agentq.runs import RunState
    from agentq.stores.base import Claim
    from agentq.tools.spec import ToolSpec

logger = logging.getLogger(__name__)
# Of no call, so that `read_steps` passes it over.
COMPACTED = f"{PART}compacted"
_REFUSED = (StopReason.REFUSAL, StopReason.CONTENT_FILTER)


@dataclass(frozen=True, slots=True)
class View:
    """The messages that a model reads. The first `history_length` are of earlier runs; `whole` is what is stored."""

    messages: tuple[Message, ...]
    history_length: int
    whole: tuple[Message, ...] = ()

    def followed_by(self, more: tuple[Message, ...]) -> View:
        """With more messages at the end."""
        return replace(self, messages=self.messages + more) if more else self


class Compacting:
    """What one iteration knows of what the model reads less of."""

    def __init__(self, loop: Loop, agent: Agent, claim: Claim, writer: StepWriter, policy: Policy) -> None:
        self._loop = loop
        self._agent = agent
        self._claim = claim
        self._writer = writer
        self._policy = policy
        # What was done in this iteration, and does not stand in the transcript yet.
        self._pending = journaled_record(claim.journal, claim.run.run_id)
        # Messages are left out because no model could sum them up; if the next call fails too, none are.
        self._is_tentative = False

    @property
    def is_on(self) -> bool:
        return self._agent.compaction is not None

    def _transcript(self) -> tuple[Message, ...]:
        return self._claim.history + self._claim.messages

    def view(self, hides: Callable[[Message], bool] | None) -> View:
        """What the model reads, without what somebody else hides. Agents without compaction read all but records."""
        if not self.is_on and hides is None:
            return view_without_records(self._claim, self._loop.records)
        history, transcript = self._claim.history, self._transcript()
        record = (self._pending or last_record(transcript)) if self.is_on else None
        now = shown(transcript, record, hides)
        return View(now.messages, now.before(len(history)), transcript if record is not None else ())

    async def find(self, run: RunState, overhead: int, hides: Callable[[Message], bool] | None) -> None:
        """Do what is to be done before the model is asked. `overhead`: tokens of instructions and tools."""
        compaction = self._agent.compaction
        if compaction is None or self._pending is not None:
            return
        transcript = self._transcript()
        plan, now, measure = plan_of(transcript, len(self._claim.history), compaction, overhead, hides)
        if plan.strategy == "none":
            return
        strategy: Strategy = plan.strategy
        text, said = "", None
        if strategy == "summary":
            said = await self._sum_up(plan, compaction, run, measure)
            text = "" if said is None else fitting_summary(said.text, compaction)
            if not text or measure(with_summary(plan, text)) >= measure(plan.messages):
                strategy, text = "dropped", words_for_dropped(plan)
        before = last_record(transcript)
        record = record_of(plan, now, before, compaction, strategy, text)
        if said is not None:
            record = record.model_copy(update={"model": said.model, "usage": said.usage})
        after = shown(transcript, record, hides).messages
        event = ContextCompacted(
            strategy=strategy,
            messages_before=len(now.messages),
            messages_after=len(after),
            tokens_before=measure(now.messages),
            tokens_after=measure(after),
        )
        self._pending = record
        self._is_tentative = plan.strategy == "summary" and said is None
        if self._is_tentative:
            self._writer.emit(event)
        else:
            # At once: a summary costs, and the next worker must send the model the same.
            await self._writer.write([StepRecord(COMPACTED, encode_message(record))], [event])

    def kept(self, finish: Finish, *, journal_stays: bool) -> Finish:
        """The end of the iteration, with the record before the reply that has read by it.

        `journal_stays`: there is more in the journal than the record, so a commit that appends nothing must not take
        one along.
        """
        if self._is_tentative and not any(message.role is Role.ASSISTANT for message in finish.messages):
            return finish
        return keep_record(finish, self._pending, journal_stays=journal_stays)

    @property
    def usage(self) -> Usage | None:
        """What a summary of this iteration took, if there is one."""
        return None if self._pending is None else self._pending.usage

    # --- the summary

    async def _sum_up(self, plan: Plan, compaction: Compaction, run: RunState, measure: Measure) -> Message | None:
        """What a model says in place of the old messages; None, and a warning, when none says anything."""
        text = as_text(plan.messages[: plan.position], int(compaction.limit / max(measure.factor, 1.0)))
        own = (run.model,) if run.model else self._agent.models
        models = self._loop.resting.last((compaction.model,) if compaction.model else own)
        problem: Exception | None = None
        for model in models:
            try:
                said = await self._ask(model, instructions_for(compaction), text, run)
            except LeaseLost:
                raise
            except AgentQError as error:
                problem = error
            except Exception as error:
                logger.exception("provider of run %s raised", run.run_id, extra={"run_id": run.run_id})
                problem = error
            else:
                if said.text.strip() and said.stop_reason not in _REFUSED:
                    return said
                self._warn(run, f"{model} wrote no summary")
                # It is paid all the same, and another try would be, too.
                return said.model_copy(update={"parts": ()})
        self._warn(run, problem)
        return None

    def _warn(self, run: RunState, problem: object) -> None:
        logger.warning(
            "run %s: old messages are left out, because no model could sum them up: %s",
            run.run_id,
            problem,
            extra={"run_id": run.run_id},
        )

    async def _ask(self, model: str, instructions: str, text: str, run: RunState) -> Message:
        provider, name = self._loop.provider(model)
        request = ModelRequest(
            name,
            (user_message(text),),
            instructions=instructions,
            settings=self._agent.settings_of(model),
            run_id=run.run_id,
        )
        builder = ReplyBuilder()
        stream = provider.stream(await self._policy.before_model(request))
        try:
            async for given in stream:
                chunk = storable(given)
                builder.add(chunk)
                # No viewer must take a summary for the answer, so its text is not told.
                if isinstance(chunk, Retried):
                    wait_ms = round(chunk.wait_s * 1000)
                    self._writer.emit(
                        ModelRetried(model=model, attempt=chunk.attempt, wait_ms=wait_ms, reason=chunk.error)
                    )
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        return priced(builder.finish(run.run_id, 0), provider.name, name)


def overhead_of(instructions: str, specs: Sequence[ToolSpec]) -> int:
    """About how many tokens of a request are no messages."""
    tools = [[spec.name, spec.description, spec.parameters] for spec in specs]
    return estimate_tokens(instructions) + estimate_tokens(_json.dumps(tools).decode())


def journaled_record(journal: Mapping[str, bytes], run_id: str) -> Message | None:
    """The record that the iteration in flight has written, if any."""
    if COMPACTED not in journal:
        return None
    try:
        return decode_message(journal[COMPACTED])
    except StoreCorrupted:
        # It is made again; a run must not end for that.
        logger.warning("how run %s was made to fit cannot be read", run_id, exc_info=True)
        return None


def view_without_records(claim: Claim, records: Records) -> View:
    """The messages as they are stored: records are no messages for a model, and only it knows by them what to read."""
    transcript = claim.history + claim.messages
    if not records.are_in(claim.run.run_id, transcript):
        return View(transcript, len(claim.history))
    now = shown(transcript, None, None)
    return View(now.messages, now.before(len(claim.history)))


def keep_record(finish: Finish, record: Message | None, *, journal_stays: bool) -> Finish:
    """The end of an iteration with its record, so that it is paid once: in the transcript, or left in the journal."""
    if record is None or (journal_stays and not finish.messages):
        return finish
    return replace(finish, messages=(record, *finish.messages))
