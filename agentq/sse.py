"""Server-sent events: a run's events as the text that a browser's EventSource reads, whatever the web framework."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from agentq.events.model import Event
    from agentq.runs import RunState

# A comment: the browser drops it.
BEAT = ":\n\n"
T = TypeVar("T")
# The loop itself holds its tasks weakly.
_closing: set[asyncio.Task[None]] = set()


def cursor(after: int | str) -> int:
    """The number of the last event that a viewer has seen, from a number or from the text of a header or a query."""
    if not re.fullmatch("[0-9]{1,15}", str(after)):
        raise InvalidInput(f"after must be the number of an event, not {str(after)[:40]!r}", field="after")
    return int(after)


def has_more(state: RunState, after: int) -> bool:
    """Whether a viewer at the cursor `after` has anything to wait for. Raises `InvalidInput` if it cannot be there."""
    if after > state.seq:
        raise InvalidInput(f"run {state.run_id} has no event {after}; its last is {state.seq}", field="after")
    return after < state.seq or not state.status.is_final


def frame(event: Event) -> str:
    """One event. `id` is its cursor, which the browser sends back as Last-Event-ID; JSON has no line breaks."""
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"


async def frames(events: AsyncGenerator[Event, None], beat_s: float) -> AsyncGenerator[str, None]:
    """Frames of the events, a beat before the first and whenever `beat_s` pass without one; closes `events`."""
    async with aclosing(paced(events, beat_s)) as due:
        async for event in due:
            yield BEAT if event is None else frame(event)


async def paced(items: AsyncGenerator[T, None], beat_s: float) -> AsyncGenerator[T | None, None]:
    """The items, and None before the first and whenever `beat_s` pass without one; closes `items`.

    The first None, sent as a beat, carries the headers to the browser at once. The others keep proxies from cutting a
    connection that seems dead, and are what a server notices by that the browser has gone.
    """
    yield None
    step: asyncio.Task[T | None] | None = None
    try:
        while True:
            # Kept through the beats: cancelling a step would end the generator that it is a step of.
            step = step or asyncio.create_task(_next(items))
            done, _ = await asyncio.wait({step}, timeout=beat_s)
            if not done:
                yield None
                continue
            item, step = step.result(), None
            if item is None:
                return
            yield item
    finally:
        await close(items, step)


async def close(items: AsyncGenerator[T, None], step: asyncio.Task[T | None] | None) -> None:
    """End a generator and the step of it that is under way, even where whoever reads it is cancelled meanwhile."""
    # A task of its own: anyio, so Starlette too, cancels again and again until we are out of here.
    closing = asyncio.create_task(_close(items, step))
    _closing.add(closing)
    closing.add_done_callback(_closing.discard)
    await asyncio.shield(closing)


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


async def _close(items: AsyncGenerator[T, None], step: asyncio.Task[T | None] | None) -> None:
    if step is not None:
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
    await items.aclose()
