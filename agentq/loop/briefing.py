"""What the model is told in one iteration besides the run's messages: instructions, memory, passages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agentq.context.tokens import estimate_tokens
from agentq.loop.compacting import (
    COMPACTED,
    Compacting,
    View,
    journaled_record,
    keep_record,
    overhead_of,
    view_without_records,
)
from agentq.loop.remembering import Remembering
from agentq.loop.retrieving import RETRIEVED, Retrieving, journaled_passages, keep_passages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.context.sections import Instructions
    from agentq.decide import Finish
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.writer import StepWriter
    from agentq.messages import Usage
    from agentq.runs import RunState
    from agentq.stores.base import Claim
    from agentq.stores.values import Change
    from agentq.tools.spec import ToolSpec


class Briefing(Protocol):
    """Puts it together, and says what of it is to be kept."""

    async def instructions(self, run: RunState, specs: Sequence[ToolSpec]) -> Instructions:
        """What to tell the model now; the messages are made to fit with it and with the tools.

        Raises `ContextError` where that cannot be put together.
        """

    def shown(self) -> View:
        """The messages that the model reads."""

    def kept(self, finish: Finish, *, journal_stays: bool) -> Finish:
        """The end of the iteration, with what the transcript keeps of what the model was told.

        `journal_stays`: there is more in the journal than that, so a commit that appends nothing must leave it.
        """

    @property
    def usage(self) -> Usage | None:
        """What it took to have less to read, if anything."""

    def is_slow_to_end(self, finish: Finish) -> bool:
        """Whether `changes` asks somebody, so that what there is should be safe before."""

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        """What the end of the iteration changes in the memory. Raises `StoreUnavailable`."""


def briefing_of(
    loop: Loop, agent: Agent, claim: Claim, writer: StepWriter, interrupts: Interrupts, policy: Policy
) -> Briefing:
    """The briefing of an iteration; a plain one where that comes to the same."""
    has_more = agent.compaction is not None or agent.memory is not None or agent.retrieval is not None
    if has_more or not claim.journal.keys().isdisjoint((COMPACTED, RETRIEVED)):
        return FullBriefing(loop, agent, claim, writer, interrupts, policy)
    return PlainBriefing(loop, agent, claim)


class PlainBriefing:
    """Instructions and the run's messages, and nothing besides: there are many such iterations."""

    usage: Usage | None = None

    def __init__(self, loop: Loop, agent: Agent, claim: Claim) -> None:
        self._loop = loop
        self._prompt = agent.prompt
        self._claim = claim

    async def instructions(self, run: RunState, specs: Sequence[ToolSpec]) -> Instructions:
        return await self._prompt.compose(run)

    def shown(self) -> View:
        return view_without_records(self._claim, self._loop.records)

    def kept(self, finish: Finish, *, journal_stays: bool) -> Finish:
        return finish

    def is_slow_to_end(self, finish: Finish) -> bool:
        return False

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        return ()


class FullBriefing:
    """With memory, passages and what makes the messages fit, as far as the agent has them."""

    def __init__(
        self, loop: Loop, agent: Agent, claim: Claim, writer: StepWriter, interrupts: Interrupts, policy: Policy
    ) -> None:
        self._prompt = agent.prompt
        self._retrieving = Retrieving(agent.retrieval, claim, writer, loop.clock)
        self._compacting = Compacting(loop, agent, claim, writer, policy)
        self._remembering = Remembering(
            agent.memory, claim, loop.store, clock=loop.clock, interrupts=interrupts, is_lost=lambda: writer.closed
        )

    async def instructions(self, run: RunState, specs: Sequence[ToolSpec]) -> Instructions:
        composed = await self._prompt.compose(run)
        await self._remembering.recall()
        await self._retrieving.find(run)
        told = self._retrieving.told(self._remembering.told(composed))
        if self._compacting.is_on:
            overhead = overhead_of(told.text, specs) + estimate_tokens(self._retrieving.added)
            await self._compacting.find(run, overhead, self._retrieving.hides)
        return told

    def shown(self) -> View:
        return self._compacting.view(self._retrieving.hides).followed_by(self._retrieving.added)

    def kept(self, finish: Finish, *, journal_stays: bool) -> Finish:
        return self._retrieving.kept(self._compacting.kept(finish, journal_stays=journal_stays))

    @property
    def usage(self) -> Usage | None:
        return self._compacting.usage

    def is_slow_to_end(self, finish: Finish) -> bool:
        return self._remembering.extracts(finish)

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        return await self._remembering.changes(finish)


def keep_journaled(finish: Finish, claim: Claim, *, journal_stays: bool) -> Finish:
    """As `Briefing.kept`, where nobody goes on with the iteration and its agent is not known: by the journal alone."""
    record = journaled_record(claim.journal, claim.run.run_id)
    return keep_passages(keep_record(finish, record, journal_stays=journal_stays), journaled_passages(claim))
