"""What a run is told of its agent's memory, and what it leaves in it; see agentq/context/memory.py."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from agentq.context.memory import (
    PREFIX,
    checked_fact,
    decode_facts,
    encode_fact,
    forget,
    in_order,
    remember,
    told_by_model,
)
from agentq.errors import ContextError, StoreUnavailable
from agentq.loop.writer import patiently
from agentq.runs import Status
from agentq.stores.values import Change, owner_of
from agentq.tools.function import tool
from agentq.tools.toolset import Offered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._clock import Clock
    from agentq.context.memory import Fact, Memory
    from agentq.context.sections import Instructions
    from agentq.decide import Finish
    from agentq.loop.interrupts import Interrupts
    from agentq.messages import Message
    from agentq.runs import RunState
    from agentq.stores.base import Claim, Store

logger = logging.getLogger(__name__)
# They change nothing by themselves, so a crash may repeat them; the commit that ends the run writes what they said.
MEMORY_TOOLS = tuple(
    Offered(tool(function, effect="none", read_only=False), ("memory",)) for function in (remember, forget)
)


class Remembering:
    """The memory of one run in one iteration."""

    def __init__(
        self,
        memory: Memory | None,
        claim: Claim,
        store: Store,
        *,
        clock: Clock,
        interrupts: Interrupts,
        is_lost: Callable[[], bool],
    ) -> None:
        self._memory = memory if memory is not None and memory.is_on(claim.run) else None
        self._claim = claim
        self._store = store
        self._clock = clock
        self._interrupts = interrupts
        self._is_lost = is_lost
        self._section = ""

    async def recall(self) -> None:
        """Have the facts ready that the model is to be told. Raises `ContextError` while the store is away."""
        if self._memory is None:
            return
        try:
            facts = await self._facts(self._memory)
        except StoreUnavailable as error:
            raise ContextError(f"the memory cannot be read: {error}") from error
        self._section = self._memory.section(list(facts.values()))

    def told(self, instructions: Instructions) -> Instructions:
        """The instructions with what is remembered, which seldom changes from one request to the next."""
        return instructions.with_volatile(self._section) if self._section else instructions

    def extracts(self, finish: Finish) -> bool:
        """Whether `extract` is asked before the commit: that may take its time."""
        has_extract = self._memory is not None and self._memory.extract is not None
        return has_extract and finish.status is Status.COMPLETED

    async def changes(self, finish: Finish) -> tuple[Change, ...]:
        """What the end of the run changes in the memory; nothing where the run goes on. Raises `StoreUnavailable`."""
        memory, run = self._memory, self._claim.run
        if memory is None or not finish.status.is_final:
            return ()
        messages, now_ms = (*self._claim.messages, *finish.messages), self._clock.now_ms()
        wanted = told_by_model(messages, now_ms) if memory.tools else {}
        if not wanted and not self.extracts(finish):
            return ()
        known = await self._facts(memory)
        if self.extracts(finish):
            # What the model chose to say or forget itself goes before.
            wanted = await self._extracted(memory, run, messages, known, now_ms) | wanted
        return _changes(memory, known, wanted)

    async def _extracted(
        self, memory: Memory, run: RunState, messages: Sequence[Message], known: dict[str, Fact], now_ms: int
    ) -> dict[str, Fact | None]:
        try:
            found = await self._interrupts.run(_extract(memory, run, messages, in_order(known.values())), "none")
            facts = [checked_fact(each, now_ms) for each in found or ()]
        except (Exception, SystemExit):
            logger.exception("memory of run %s: extract failed", run.run_id, extra={"run_id": run.run_id})
            return {}
        return {fact.fact_id: fact for fact in facts}

    async def _facts(self, memory: Memory) -> dict[str, Fact]:
        owner = owner_of(memory.scope, self._claim.run)
        assert owner is not None  # noqa: S101 - `is_on` has seen to it
        values = await patiently(lambda: self._store.values(memory.scope, owner), self._clock, self._is_lost)
        return decode_facts(values)


async def _extract(memory: Memory, run: RunState, messages: Sequence[Message], known: Sequence[Fact]) -> Sequence[Any]:
    assert memory.extract is not None  # noqa: S101 - whoever calls this has looked
    async with asyncio.timeout(memory.timeout_s):
        found: Any = memory.extract(run, messages, known)
        if inspect.isawaitable(found):
            found = await found
    return list(found)


def _changes(memory: Memory, known: dict[str, Fact], wanted: dict[str, Fact | None]) -> tuple[Change, ...]:
    """New facts, forgotten ones, and the oldest that no longer fit. A fact that is known keeps its age."""
    after = dict(known)
    for fact_id, fact in wanted.items():
        if fact is None:
            after.pop(fact_id, None)
        elif fact_id not in after:
            after[fact_id] = fact
    for fact in in_order(after.values())[: max(len(after) - memory.max_facts, 0)]:
        del after[fact.fact_id]
    gone = {fact_id: None for fact_id in known if fact_id not in after}
    new = {fact_id: encode_fact(fact) for fact_id, fact in after.items() if fact_id not in known}
    return tuple(Change(memory.scope, PREFIX + fact_id, value) for fact_id, value in {**gone, **new}.items())
