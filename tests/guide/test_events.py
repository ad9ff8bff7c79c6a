"""Events: what happens in a run, in order, live and afterwards, from any place on."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ, AsyncClient, Callbacks, Client, InvalidInput, ToolContext, tool
from agentq.events.kinds import KINDS
from agentq.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.events.model import Event

STORY = (
    'call add_numbers {"a": 7, "b": 9}\ncall add_numbers {"a": "x", "b": 9}\n'
    "fail 503\ncall nothing {}\nrefuse\nsay The answer is $1."
)
ADD = 'call add_numbers {"a": 7, "b": 9}\nsay The answer is $1.'


@tool(effect="none")
async def add_numbers(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@tool(effect="none")
async def count(ctx: ToolContext, to: int) -> str:
    """Count, and say how far it is."""
    for number in range(1, to + 1):
        await ctx.progress(f"{number} of {to}", number / to)
    return "done"


APP = AgentQ(agents=[Agent("counter", model="mock", tools=[count])])


async def test_a_run_tells_everything_in_order():
    seen: list[str] = []
    await APP.run("counter", 'call count {"to": 1}', on_event=lambda event: seen.append(event.type))
    assert seen == [
        "run.queued",
        "run.started",
        "iteration.started",
        "reply.completed",
        "tool.called",
        "tool.progress",
        "tool.finished",
        "iteration.finished",
        "iteration.started",
        "text.delta",
        "reply.completed",
        "iteration.finished",
        "run.completed",
    ]


async def test_callbacks_get_what_they_are_there_for():
    said: list[str] = []
    await APP.run(
        "counter",
        'call count {"to": 2}\nsay All of it.',
        callbacks=Callbacks(
            on_tool_start=lambda event: said.append(f"{event.name} {event.arguments}"),
            on_tool_result=lambda event: said.append(event.content),
            on_partial_reply=said.append,
            on_done=lambda event: said.append(event.type),
        ),
    )
    assert said[:2] == ["count {'to': 2}", "done"]
    assert "".join(said[2:-1]) == "All of it."
    assert said[-1] == "run.completed"


def test_whoever_comes_late_sees_the_same_as_who_was_there(redis_url: str, work: Callable[[], None]):
    with Client(redis_url) as client:
        run = client.enqueue("calculator", ADD)
        work()
        events = list(run.events())
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert list(run.events()) == events


def test_a_cursor_is_the_number_of_the_last_event_that_was_seen(redis_url: str, work: Callable[[], None]):
    with Client(redis_url) as client:
        run = client.enqueue("calculator", ADD)
        work()
        events = list(run.events())
        for event in events:
            assert list(run.events(after=event.seq)) == events[event.seq :]


async def test_text_is_seen_as_it_streams_and_the_same_pieces_are_seen_later(
    redis_url: str, agentq: Callable[..., str]
):
    async with AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", 'stream 20 "tick " 0.02')
        working = asyncio.create_task(asyncio.to_thread(agentq, "worker", "--burst"))
        live = [event async for event in run.events()]
        await working
        pieces = [event.text for event in live if event.type == "text.delta"]
        assert len(pieces) > 1
        assert "".join(pieces) == "tick " * 20
        assert [event async for event in run.events()] == live
        assert all(before.at_ms <= after.at_ms for before, after in pairwise(live))


def test_without_live_it_stops_at_the_last_event_there_is(redis_url: str):
    with Client(redis_url) as client:
        run = client.enqueue("calculator", ADD)
        assert [event.type for event in run.events(live=False)] == ["run.queued"]


class Heard:
    """All callbacks; what was heard, with the pieces of a reply joined, and without those of one that was given up.

    How a reply is cut, and how much of one is sent before it is given up, is a matter of time.
    """

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        names = ("on_tool_start", "on_tool_result", "on_event", "on_done")
        hears: dict[str, Callable[[Event], None]] = {name: partial(self._hear, name) for name in names}
        self.callbacks = Callbacks(on_partial_reply=self._hear_text, **hears)

    def _hear(self, name: str, event: Event) -> None:
        if event.type == "attempt.reset":
            while self.all[-1][0] == "on_partial_reply" or self.all[-1][1] == "text.delta":
                self.all.pop()
            return
        if event.type != "text.delta" or self.all[-1][0] != "on_partial_reply":
            self.all.append((name, event.type))

    def _hear_text(self, text: str) -> None:
        if self.all[-1][0] == "on_partial_reply":
            text = self.all.pop()[1] + text
        self.all.append(("on_partial_reply", text))


async def test_callbacks_are_the_same_in_process_and_from_afar(agentq: Callable[..., str], redis_url: str):
    """The same names in the same order: in the process of the run, from a client's loop, and from a blocking client."""
    agent = Agent("calculator", model="mock", tools=[add_numbers], retry_backoff_s=0.01)
    here, afar, late = Heard(), Heard(), Heard()
    await AgentQ([agent]).run("calculator", STORY, callbacks=here.callbacks)
    async with AsyncClient(redis_url) as client:
        run = await client.enqueue("calculator", STORY)
        working = asyncio.create_task(asyncio.to_thread(agentq, "worker", "--burst"))
        result = await run.follow(afar.callbacks)
        await working
        assert result is not None
        assert result.output == "The answer is 16."
    with Client(redis_url) as blocking:
        await asyncio.to_thread(blocking.follow, run.id, late.callbacks)
    assert afar.all == late.all == here.all
    assert [heard for heard in here.all if heard[0] != "on_event"] == [
        ("on_tool_start", "tool.called"),
        ("on_tool_result", "tool.finished"),
        ("on_tool_start", "tool.called"),
        ("on_tool_result", "tool.failed"),  # its arguments do not fit
        ("on_tool_start", "tool.called"),
        ("on_tool_result", "tool.failed"),  # there is no such tool
        ("on_partial_reply", "The answer is 16."),
        ("on_done", "run.completed"),
    ]


async def test_one_kind_or_some_can_be_asked_for():
    store = MemoryStore()
    app = AgentQ([Agent("calculator", model="mock", tools=[add_numbers])], store=store)
    result = await app.run("calculator", ADD)
    async with AsyncClient(store=store) as client:
        for kinds, count in (["tool.finished"], 1), (["run.completed", "run.failed"], 1), ([], 12):
            seen = [event.type async for event in client.events(result.run_id, kinds=kinds)]
            assert set(seen) <= set(kinds or KINDS)
            assert len(seen) == count
        for wrong in ("tool.finished", ["tool.done"]):
            with pytest.raises(InvalidInput, match="kinds"):
                await anext(client.events(result.run_id, kinds=wrong))
