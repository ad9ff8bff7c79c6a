"""What the model is told in one iteration besides the run's messages: instructions, memory, passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.loop.remembering import Remembering
from agentq.loop.retrieving import Retrieving

if TYPE_CHECKING:
    from agentq.context.sections import Instructions
    from agentq.decide import Finish
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.loop.loop import Loop
    from agentq.loop.writer import StepWriter
    from agentq.messages import Message
    from agentq.runs import RunState
    from agentq.stores.base import Claim
    from agentq.stores.values import Change


class Briefing:
    """Puts it together, and says what of it is to be kept."""

    def __init__(self, loop: Loop, agent: Agent, claim: Claim, writer: StepWriter, interrupts: Interrupts) -> None:
        self._prompt = agent.prompt
        self._retrieving = Retrieving(agent.retrieval, claim, writer, loop.clock)
        self._remembering = Remembering(
            agent.memory, claim, loop.store, clock=loop.clock, interrupts=interrupts, is_lost=lambda: writer.closed
        )

    async def instructions(self, run: RunState) -> Instructions:
        """What to tell the model now. Raises `ContextError` where that cannot be put together."""
        composed = await self._prompt.compose(run)
        await self._remembering.recall()
        await self._retrieving.find(run)
        return self._retrieving.told(self._remembering.told(composed))

    def shown(self) -> tuple[tuple[Message, ...], int]:
        """The messages that the model reads, and how many of them are of earlier runs."""
        return self._retrieving.shown()

    def kept(self, finish: Finish) -> Finish:
        """The end of the iteration, with what the transcript keeps of what the model was told."""
        return self._retrieving.kept(finish)

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        """What the end of the iteration changes in the memory. Raises `StoreUnavailable`."""
        return await self._remembering.changes(finish)
