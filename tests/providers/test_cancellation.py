"""Whenever a stream is cancelled, its connection is closed at once and its slot is free again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ, Settings
from agentq.messages import user_message
from agentq.providers._http import Connections
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.providers.openai_chat import OpenAIChat
from tests.providers.faults import EVENTS, FaultServer, Wire, chunk, encoded, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STREAMS = 2_000
RUNS = 200
SLOTS = 20
# More than there are slots, so that some are cancelled while they wait for one.
AT_ONCE = 30
WORDS = ["one ", "two ", "three ", "four"]
BEGIN, LAST = encoded([chunk({"content": word}) for word in WORDS], done=False), encoded([chunk(finish="stop")])
# A body of this size is sent in pieces.
LARGE = "x" * 300_000


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIChat]:
    made = OpenAIChat(connections=Connections(max_connections=SLOTS))
    yield made
    await made.aclose()


def erratic(chance: random.Random) -> object:
    """Each answer stops somewhere: before its headers, before or between its words, after the last, or not at all."""

    async def play(wire: Wire) -> None:
        wire.keeps_alive = False
        stop = chance.choice(["before", "headers", "words", "end", "never"])
        if stop == "before":
            await asyncio.Event().wait()
        await wire.head(200, EVENTS | {"Connection": "close"})
        if stop == "headers":
            await asyncio.Event().wait()
        while True:
            # Cuts the frames anywhere.
            size = chance.randint(1, 200)
            for begin in range(0, len(BEGIN), size):
                await wire.send(BEGIN[begin : begin + size])
                await asyncio.sleep(0)
            if stop != "words":
                break
        await wire.send(LAST)
        if stop == "end":
            await asyncio.Event().wait()
        await wire.end()

    return play


class Cancelled:
    """How far those were that were cancelled."""

    def __init__(self, provider: OpenAIChat, server: FaultServer, chance: random.Random) -> None:
        self.provider, self.server, self.chance = provider, server, chance
        self.phases: Counter[str] = Counter()

    async def some(self, count: int) -> None:
        for _ in range(count):
            await self.one()

    async def one(self) -> None:
        seen: list[str] = []
        begun = asyncio.create_task(self.read(seen))
        for _ in range(self.chance.randint(0, 120)):
            await asyncio.sleep(0)
        was_cancelled = begun.cancel()
        await asyncio.wait({begun})
        if not was_cancelled:
            begun.result()  # which must be no error
        assert begun.cancelled() is was_cancelled
        phase = "middle" if 0 < len(seen) < len(WORDS) else "end" if seen else "before"
        self.phases[phase if was_cancelled else "complete"] += 1

    async def read(self, seen: list[str]) -> None:
        prompt = LARGE if self.chance.random() < 0.05 else "Hi"
        request = ModelRequest("gpt-x", (user_message(prompt),), settings={"base_url": self.server.url})
        async for piece in self.provider.stream(request):
            seen += [piece.text] if isinstance(piece, TextChunk) else []


async def test_thousands_of_cancelled_streams_leave_nothing_behind(model_server: FaultServer, provider: OpenAIChat):
    chance = random.Random(7)
    model_server.answers(erratic(chance))  # type: ignore[arg-type]
    cancelled = Cancelled(provider, model_server, chance)
    async with asyncio.TaskGroup() as group:
        for share in range(AT_ONCE):
            group.create_task(cancelled.some(STREAMS // AT_ONCE + (share < STREAMS % AT_ONCE)))
    assert cancelled.phases.total() == STREAMS
    assert min(cancelled.phases[phase] for phase in ("before", "middle", "end")) > 0, cancelled.phases
    await model_server.is_quiet()
    await every_slot_is_free(model_server, provider)


async def test_hundreds_of_cancelled_runs_leave_nothing_behind(model_server: FaultServer, provider: OpenAIChat):
    chance = random.Random(8)
    model_server.answers(erratic(chance))  # type: ignore[arg-type]
    agent = Agent("writer", model="openai-chat:gpt-x", model_settings={"base_url": model_server.url})
    app = AgentQ([agent], settings=Settings(), models={"openai-chat": provider})

    async def some() -> None:
        for _ in range(RUNS // AT_ONCE):
            run = asyncio.create_task(app.run("writer", "Hi"))
            for _ in range(chance.randint(0, 120)):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait({run})

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    assert model_server.asked
    await model_server.is_quiet()
    await every_slot_is_free(model_server, provider)


async def every_slot_is_free(server: FaultServer, provider: OpenAIChat) -> None:
    """As many streams as there are slots run to their end, at the same time: none is answered before all are there."""
    all_there = asyncio.Barrier(SLOTS)

    async def play(wire: Wire) -> None:
        await all_there.wait()
        await wire.head()
        await wire.send(encoded(says("It ", "is ", "16.")))
        await wire.end()

    async def read() -> str:
        request = ModelRequest("gpt-x", (user_message("Hi"),), settings={"base_url": server.url})
        *pieces, end = [piece async for piece in provider.stream(request)]
        assert isinstance(end, ReplyEnd)
        return "".join(piece.text for piece in pieces if isinstance(piece, TextChunk))

    server.answers(play)
    assert await asyncio.gather(*(read() for _ in range(SLOTS))) == ["It is 16."] * SLOTS
    assert server.is_open == SLOTS
