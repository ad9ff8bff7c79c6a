"""What the model is told in one iteration besides the run's messages: instructions, memory, passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.context.tokens import estimate_tokens
from agentq.loop.compacting import Compacting, View, journaled_record, keep_record, overhead_of
from agentq.loop.remembering import Remembering
from agentq.loop.retrieving import Retrieving, journaled_passages, keep_passages

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


class Briefing:
    """Puts it together, and says what of it is to be kept."""

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
        """What to tell the model now; the messages are made to fit with it and with the tools.

        Raises `ContextError` where that cannot be put together.
        """
        composed = await self._prompt.compose(run)
        await self._remembering.recall()
        await self._retrieving.find(run)
        told = self._retrieving.told(self._remembering.told(composed))
        if self._compacting.is_on:
            overhead = overhead_of(told.text, specs) + estimate_tokens(self._retrieving.added)
            await self._compacting.find(run, overhead, self._retrieving.hides)
        return told

    def shown(self) -> View:
        """The messages that the model reads."""
        return self._compacting.view(self._retrieving.hides).followed_by(self._retrieving.added)

    def kept(self, finish: Finish, *, journal_stays: bool) -> Finish:
        """The end of the iteration, with what the transcript keeps of what the model was told.

        `journal_stays`: there is more in the journal than that, so a commit that appends nothing must leave it.
        """
        return self._retrieving.kept(self._compacting.kept(finish, journal_stays=journal_stays))

    @property
    def usage(self) -> Usage:
        """What it took to have less to read."""
        return self._compacting.usage

    def is_slow_to_end(self, finish: Finish) -> bool:
        """Whether `changes` asks somebody, so that what there is should be safe before."""
        return self._remembering.extracts(finish)

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        """What the end of the iteration changes in the memory. Raises `StoreUnavailable`."""
        return await self._remembering.changes(finish)


def keep_journaled(finish: Finish, claim: Claim, *, journal_stays: bool) -> Finish:
    """As `Briefing.kept`, where nobody goes on with the iteration and its agent is not known: by the journal alone."""
    record = journaled_record(claim.journal, claim.run.run_id)
    return keep_passages(keep_record(finish, record, journal_stays=journal_stays), journaled_passages(claim))
