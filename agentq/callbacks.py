"""Callbacks: a run's events, handed to the functions that they concern."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from agentq.errors import InvalidInput
from agentq.events.model import Event, FinalEvent, TextDelta, ToolCalled, ToolFailed, ToolFinished

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """What to call while a run goes on. Each is optional, a plain function or a coroutine function.

    They are called in the order of the events, one after the other; the next event waits for the one before. What a
    callback raises ends the following and comes out of it; the run itself goes on.

    `on_partial_reply` gets each piece of text as it streams, not the text so far. After a crash a reply may begin anew:
    `on_event` sees the `attempt.reset` that says which pieces to forget. `on_tool_result` gets failed calls too.
    `on_event` gets every event, before the callback that is more special. `on_done` gets the event that ended the run,
    completed, failed or cancelled, once; not an earlier end that a retry has undone.
    """

    on_partial_reply: Callable[[str], object] | None = None
    on_tool_start: Callable[[ToolCalled], object] | None = None
    on_tool_result: Callable[[ToolFinished | ToolFailed], object] | None = None
    on_event: Callable[[Event], object] | None = None
    on_done: Callable[[FinalEvent], object] | None = None


async def dispatch(callbacks: Callbacks, event: Event) -> None:
    """Call what `event` concerns, and wait for it. Takes a final event for the end of the run."""
    for call in _concerned(callbacks, event):
        await finish(call())
    for call in _at_the_end(callbacks, event):
        await finish(call())


def check_callbacks(callbacks: object) -> None:
    """Raise `InvalidInput` for what is no `Callbacks`."""
    if not isinstance(callbacks, Callbacks):
        kind = type(callbacks).__name__
        raise InvalidInput(f"callbacks must be Callbacks(on_event=...), not {kind}", field="callbacks")


async def calls(callbacks: Callbacks, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Call, None]:
    """The calls that `events` ask for, in order, for whoever makes them on a thread of his own; closes `events`.

    Raises `InvalidInput`.
    """
    check_callbacks(callbacks)
    last: Event | None = None
    async with aclosing(events):
        async for event in events:
            last = event
            for call in _concerned(callbacks, event):
                yield call
    if last is not None:
        for call in _at_the_end(callbacks, last):
            yield call


async def finish(answer: object) -> None:
    """Wait for what a callback returned, if it can be waited for."""
    if inspect.isawaitable(answer):
        await answer


def _concerned(callbacks: Callbacks, event: Event) -> Iterator[Call]:
    if callbacks.on_event is not None:
        yield partial(callbacks.on_event, event)
    match event:
        case TextDelta() if callbacks.on_partial_reply is not None:
            yield partial(callbacks.on_partial_reply, event.text)
        case ToolCalled() if callbacks.on_tool_start is not None:
            yield partial(callbacks.on_tool_start, event)
        case ToolFinished() | ToolFailed() if callbacks.on_tool_result is not None:
            yield partial(callbacks.on_tool_result, event)
        case _:
            pass


def _at_the_end(callbacks: Callbacks, event: Event) -> Iterator[Call]:
    if callbacks.on_done is not None and isinstance(event, FinalEvent):
        yield partial(callbacks.on_done, event)
