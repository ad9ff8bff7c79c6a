"""A run whose calls rest, on a store, with a client and workers to put on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AsyncClient, Settings, ToolContext, tool
from agentq._redis.connection import Connection
from agentq.loop import Loop
from agentq.testing import ScriptedModel
from agentq.testing._contract import events_of, queued
from tests.stores.redis_parts import TimedParts
from tests.unit._loop import NotedWakeups, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.events.stream import EventStream
    from agentq.runs import Status


class House:
    """One agent on some store, a client, and workers to put on its run."""

    def __init__(self, store: Any, stream: EventStream, pass_time: Any) -> None:
        self.store, self.stream, self.pass_time = store, stream, pass_time
        self.executor = NotedWakeups()
        self.client = AsyncClient(store=store, stream=stream, executor=self.executor)
        self.done: list[Any] = []
        self.run_id = ""

    async def start(self, *replies: Any, tools: Any, **fields: Any) -> None:
        self.model = ScriptedModel([*replies, "Done."])
        agent = Agent("calculator", model="mock", tools=tools)
        self.loop = Loop(
            {"calculator": agent},
            self.store,
            self.executor,
            Settings(lease_ms=9_000),
            resolve_model=lambda name: (self.model, name),
        )
        self.run_id = await queued(self.store, **fields)

    async def advance(self, owner: str = "worker-1") -> Status:
        await self.loop.advance(self.run_id, owner=owner)
        return await self.status()

    async def status(self) -> Status:
        return (await self.store.read(self.run_id)).status  # type: ignore[no-any-return]

    async def sweep(self) -> Status:
        await self.store.sweep(lease_ms=9_000)
        return await self.status()

    async def results(self) -> list[tuple[str, str]]:
        return [
            (each.outcome, each.content)
            for message in await self.store.messages(self.run_id)
            for each in message.tool_results
        ]

    async def events(self, kind: Any) -> list[Any]:
        return [event for event in await events_of(self.stream, self.run_id) if isinstance(event, kind)]

    def pay(self, **options: Any) -> Any:
        async def pay(ctx: ToolContext, amount: int) -> str:
            """Pay."""
            self.done.append((amount, ctx.attempt))
            return f"paid {amount}"

        given: Any = {"effect": "once", "approval": True} | options
        return tool(**given)(pay)


@pytest.fixture(name="house", params=["memory", "redis"])
async def a_house(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[House]:
    if request.param == "memory":
        stage = Stage(ScriptedModel([]))

        async def pass_time(seconds: float) -> None:
            stage.pass_time(seconds)

        yield House(stage.store, stage.store.stream, pass_time)
        return
    parts = TimedParts(Connection(redis_url))
    yield House(parts.store, parts.stream, parts.pass_time)
    await parts.aclose()
