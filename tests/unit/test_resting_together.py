"""Calls that rest beside others, and what happens at the very moments in which they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import AsyncClient, DecisionRequest, ToolContext, tool
from agentq.errors import NotWaiting, ProviderError
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from tests.unit._resting import House, a_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest

__all__ = ["a_house"]


def ship(house: House, effect: Any = "once", **options: Any) -> Any:
    async def ship(ctx: ToolContext) -> Any:
        """Ship."""
        house.done.append("entered")
        return await ctx.wait_for("packed", **options)

    return tool(ship, effect=effect)


@tool(effect="none")
async def ask(ctx: ToolContext) -> Any:
    """Ask."""
    return await ctx.ask("Which size?")


class SlowModel(ScriptedModel):
    """What has been said of a reply is heard before the rest of it comes."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        async for chunk in super().stream(request):
            yield chunk
            await asyncio.sleep(0.02)


async def test_a_call_goes_on_while_a_later_one_still_rests(house: House):
    """The later one was safe to begin beside it. That it rests does not hold up the earlier one."""
    await house.start([call("ship"), call("ask")], tools=[ship(house), ask])
    assert await house.advance() is Status.WAITING
    await house.client.signal(house.run_id, "packed", 1)
    assert await house.advance() is Status.WAITING
    assert house.done == ["entered", "entered"]
    await house.client.answer(house.run_id, "large")
    await house.advance()
    assert await house.results() == [("ok", "1"), ("ok", "large")]


async def test_a_signal_that_came_in_time_counts_however_late_the_run_looks(house: House):
    """All workers were busy, or away, from before the signal until after the end of the time for it."""
    await house.start(call("ship"), tools=[ship(house, timeout=10)])
    assert await house.advance() is Status.WAITING
    await house.client.signal(house.run_id, "packed", 1)
    await house.pass_time(11)
    await house.sweep()
    await house.advance()
    assert await house.results() == [("ok", "1")]


async def test_a_reply_that_is_void_takes_no_signal(house: House):
    """A call that only reads begins while the model streams; the reply may never come to its end."""
    cut_off: list[Any] = [call("ship"), call("ship"), ProviderError("cut off")]
    await house.start(tools=[ship(house, effect="none")])
    house.model = SlowModel([cut_off, call("ship")])
    await house.client.signal(house.run_id, "packed", 1)
    assert await house.advance() is Status.QUEUED
    await house.pass_time(60)
    assert await house.advance() is Status.QUEUED
    assert await house.results() == [("ok", "1")]


async def test_a_reply_that_is_void_leaves_no_steps(house: House):
    done: list[str] = []

    @tool(effect="none")
    async def look(at: str, ctx: ToolContext) -> Any:
        """Look."""
        return await ctx.step("look", lambda: done.append(at) or at)  # type: ignore[func-returns-value]

    cut_off: list[Any] = [call("look", at="a"), call("look", at="b"), ProviderError("cut off")]
    await house.start(tools=[look])
    house.model = SlowModel([cut_off, call("look", at="c")])
    await house.advance()
    assert not [name for name in await house.store.journaled(house.run_id) if "#" in name]
    await house.pass_time(60)
    await house.advance()
    assert await house.results() == [("ok", "c")]
    assert done == ["c"]


async def test_a_warning_comes_between_looking_and_deciding(house: House):
    """Who has looked at a call, and decides after people were warned of the end of its time, decides on the same."""
    await house.start(call("pay", amount=500), tools=[house.pay(approval_ttl=100)])
    await house.advance()

    async def authorize(_: DecisionRequest) -> bool:
        await house.pass_time(85)
        await house.sweep()
        assert await house.advance() is Status.WAITING
        return True

    slow = AsyncClient(store=house.store, stream=house.stream, executor=house.executor, authorize=authorize)
    await slow.approve(house.run_id, by="ann")
    await house.advance()
    assert house.done == [(500, 1)]
    with pytest.raises(NotWaiting):
        await slow.approve(house.run_id, by="ann")
