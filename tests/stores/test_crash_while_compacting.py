"""Wherever a worker dies: a summary that was journaled is paid once, counted once, and in the transcript once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, Compaction
from agentq.events.model import ContextCompacted
from agentq.loop.compacting import COMPACTED
from agentq.messages import StopReason, Usage
from agentq.providers.base import Chunk, ModelRequest, Provider, ReplyEnd, TextChunk
from agentq.runs import Status
from tests.stores.crash_parts import Backend, Killer, Play, World, backend_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Ledger(World):
    """Knows, too, whether a summary stands in the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.summary_is_journaled = False

    def saw(self, name: str, arguments: tuple[Any, ...]) -> None:
        super().saw(name, arguments)
        if name == "journal":
            self.summary_is_journaled |= any(record.name == COMPACTED for record in arguments[1])


class Writer:
    """Writes summaries, and says what they cost."""

    name = "writer"

    def __init__(self, ledger: Ledger) -> None:
        self.asked = 0
        self._ledger = ledger

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        if self._ledger.summary_is_journaled:
            self._ledger.wrong.append("a summary was paid although one was journaled")
        self.asked += 1
        yield TextChunk("All was looked at.")
        yield ReplyEnd(StopReason.END, Usage(input_tokens=100, output_tokens=10))


class LongPlay(Play):
    """The run of the other crash tests, of an agent that finds its last request too long."""

    def __init__(self, backend: Backend) -> None:
        self.ledger = Ledger()
        super().__init__(backend, self.ledger)
        self.writer = Writer(self.ledger)
        self.agent = Agent(
            "calculator",
            tools=self.ledger.tools,
            model="mock",
            retry_backoff_s=0,
            compaction=Compaction(max_tokens=260, threshold=0.5, preserve_recent=2, model="writer"),
        )

    def provider(self, name: str) -> tuple[Provider, str]:
        return (self.writer, name) if name == "writer" else (self.model, name)

    async def check_summary(self, crashes: int) -> None:
        await self.check(Status.COMPLETED)
        messages = await self.backend.store.messages(self.run_id)
        assert [message.text for message in messages if message.compacted is not None] == ["All was looked at."]
        assert sum(len(message.tool_calls) for message in messages) == 6
        assert Usage.model_validate(dict((await self.read()).usage)) == Usage(input_tokens=100, output_tokens=10)
        assert 1 <= self.writer.asked <= 1 + crashes
        assert len(self.ledger.commits) == 4
        assert [event.strategy for event in self.live if isinstance(event, ContextCompacted)] == ["summary"]
        request = self.model.requests[-1]
        assert request.messages[0].text == "Do it all."
        assert request.messages[1].text.endswith("All was looked at.")
        assert len(request.messages) == 4


@pytest.fixture(params=["memory", "real"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    url = request.getfixturevalue("redis_url") if request.param == "real" else None
    async with backend_of(request.param, url) as made:
        yield made


async def unharmed(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
    return await carry_out()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_may_die_at_every_call(backend: Backend, when: str):
    for number in itertools.count(1):
        play = LongPlay(backend)
        await play.start()
        killer = Killer(number, when)
        await play.until_final(lambda worker, killer=killer: killer if worker == 1 else unharmed)  # type: ignore[misc]
        await play.check_summary(crashes=1)
        if not killer.fired:
            break
    assert number > 15


async def test_every_lost_reply_is_answered_as_before(backend: Backend):
    async def twice(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        first, second = await carry_out(), await carry_out()
        assert first == second
        return second

    play = LongPlay(backend)
    await play.start()
    await play.until_final(lambda _: twice)
    await play.check_summary(crashes=0)
