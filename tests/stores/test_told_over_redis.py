"""Passages and memory over a real Redis, with a worker that is lost around each of its writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, Passage, UserMemory, tool
from agentq._redis.connection import Connection
from agentq.context.memory import decode_facts
from agentq.errors import LeaseLost
from agentq.executors.local import LocalExecutor
from agentq.loop import Loop
from agentq.messages import NoteKind, unanswered_calls
from agentq.runs import Status
from agentq.settings import Settings
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import new_run
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

LEASE_MS = 9_000


@tool(effect="none")
async def look() -> str:
    """Look."""
    return "seen"


class Shelf:
    def __init__(self) -> None:
        self.asked = 0

    async def retrieve(self, query: str, k: int) -> Sequence[Passage]:
        self.asked += 1
        return [Passage(f"Answer {self.asked}.", "shelf")]


class GivingUp:
    """A store that gives its worker up at one of its writes: before it, or after it has been made."""

    def __init__(self, store: Any, at: int, *, after: bool) -> None:
        self._store = store
        self._left = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def journal(self, *args: Any, **kwargs: Any) -> Any:
        return await self._write(self._store.journal, *args, **kwargs)

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        return await self._write(self._store.commit, *args, **kwargs)

    async def _write(self, write: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise LeaseLost
        done = await write(*args, **kwargs)
        if self._left == 0:
            raise LeaseLost
        return done


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 8))
async def test_the_model_is_told_the_same_and_the_fact_is_kept_once(parts: TimedParts, at: int, after: bool):
    shelf = Shelf()
    model = ScriptedModel([[call("look"), call("remember", text="Likes tea.")], call("look"), "Done."])
    made = Agent("calculator", model="x:y", tools=[look], retriever=shelf, memory=UserMemory())
    store = GivingUp(parts.store, at, after=after)
    settings = Settings(lease_ms=LEASE_MS, coalesce_ms=0)
    loop = Loop({"calculator": made}, store, LocalExecutor(), settings, resolve_model=lambda name: (model, name))
    run_id = (await parts.store.create(new_run("Tea?", user_id="ann"))).run_id
    for _ in range(10):
        if (await parts.store.read(run_id)).status.is_final:
            break
        outcome = await loop.advance(run_id, owner="worker")
        if outcome is not None and outcome.kind == "lost":
            await parts.pass_time(LEASE_MS / 1000)
    assert (await parts.store.read(run_id)).status is Status.COMPLETED

    messages = await parts.store.messages(run_id)
    assert [message.note for message in messages].count(NoteKind.RETRIEVED) == 1
    assert not unanswered_calls(messages)
    # Only where the worker was lost before it could write down what was found is the retriever asked again.
    assert shelf.asked <= 2
    told = {asked.instructions for asked in model.requests[-2:]}
    assert len(told) == 1
    assert f"Answer {shelf.asked}." in told.pop()
    assert [fact.text for fact in decode_facts(await parts.store.values("user", "ann")).values()] == ["Likes tea."]
    assert await parts.store.pipeline.execute("PTTL", parts.store.keys.values("user", "ann")) > 0
