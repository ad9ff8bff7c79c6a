"""Callbacks get the events that concern them, in order, whether they are async or not."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from agentq.callbacks import Callbacks, calls, dispatch, finish
from agentq.events.model import (
    Event,
    RunCompleted,
    RunFailedEvent,
    RunQueued,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

CALLED = ToolCalled(call_id="c.1.0", name="add")
FINISHED = ToolFinished(call_id="c.1.0", name="add", content="16")
FAILED = ToolFailed(call_id="c.1.1", name="add", content="no")
STORY = (RunQueued(agent="a"), TextDelta(text="It "), CALLED, FINISHED, FAILED, RunCompleted(output="It is 16."))


class Heard:
    """Callbacks that write down what they were called with."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []

    def callbacks(self, *names: str) -> Callbacks:
        return Callbacks(**{name: self._plain(name) for name in names})

    def async_callbacks(self, *names: str) -> Callbacks:
        return Callbacks(**{name: self._async(name) for name in names})

    def _plain(self, name: str) -> Any:
        return lambda value: self.all.append((name, value))

    def _async(self, name: str) -> Any:
        async def hear(value: Any) -> None:
            self.all.append((name, value))

        return hear


class Source:
    """Events as an async generator that remembers whether it was closed."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.closed = False

    async def __call__(self) -> AsyncGenerator[Event, None]:
        try:
            for event in self.events:
                yield event
        finally:
            self.closed = True


async def _follow(callbacks: Callbacks, events: Sequence[Event]) -> None:
    async for call in calls(callbacks, Source(events)()):
        await finish(call())


EXPECTED = [
    ("on_partial_reply", "It "),
    ("on_tool_start", CALLED),
    ("on_tool_result", FINISHED),
    ("on_tool_result", FAILED),
    ("on_done", STORY[-1]),
]
SPECIAL = ("on_partial_reply", "on_tool_start", "on_tool_result", "on_done")


async def test_each_callback_gets_its_own_events():
    heard = Heard()
    for event in STORY:
        await dispatch(heard.callbacks(*SPECIAL), event)
    assert heard.all == EXPECTED


async def test_coroutine_functions_are_awaited():
    heard = Heard()
    for event in STORY:
        await dispatch(heard.async_callbacks(*SPECIAL), event)
    assert heard.all == EXPECTED


async def test_following_calls_the_same_as_dispatching_each_event():
    heard = Heard()
    await _follow(heard.async_callbacks(*SPECIAL), STORY)
    assert heard.all == EXPECTED


async def test_on_event_gets_every_event_before_the_special_callback():
    heard = Heard()
    await dispatch(heard.callbacks("on_event", "on_partial_reply"), TextDelta(text="x"))
    assert [name for name, _ in heard.all] == ["on_event", "on_partial_reply"]
    await _follow(heard.callbacks("on_event"), STORY)
    assert [event for _, event in heard.all[2:]] == list(STORY)


async def test_without_callbacks_nothing_happens():
    for event in STORY:
        await dispatch(Callbacks(), event)


async def test_on_done_is_not_called_for_an_end_that_a_retry_has_undone():
    heard = Heard()
    await _follow(heard.callbacks("on_done"), (RunFailedEvent(reason="503"), *STORY))
    assert heard.all == [("on_done", STORY[-1])]


async def test_on_done_is_not_called_when_the_events_stop_before_the_end():
    heard = Heard()
    await _follow(heard.callbacks("on_done"), STORY[:-1])
    assert heard.all == []


async def test_what_a_callback_raises_comes_out_and_the_events_are_closed():
    def raise_it(_: object) -> None:
        raise ZeroDivisionError

    source = Source(STORY)
    async with aclosing(calls(Callbacks(on_event=raise_it), source())) as due:
        call = await anext(due)
        with pytest.raises(ZeroDivisionError):
            await finish(call())
    assert source.closed
