"""The timeline of a run, live: what is new as fragments of HTML in server-sent events, which htmx puts in place.

The id of an event is the cursor of the run's last event in it. Whoever comes back with it gets what is after that, and
nothing twice: the fold runs from the start each time, and is silent up to the cursor.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from agentq import sse
from agentq.errors import RunNotFound, StoreUnavailable
from agentq.events.model import ReasoningDelta, TextDelta, ToolProgress
from agentq.web.page.rendering import render
from agentq.web.page.run import readable, state_of
from agentq.web.page.timeline import Timeline
from agentq.web.site import site_of
from agentq.web.streams.serving import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.events.model import Event
    from agentq.runs import RunState
    from agentq.web.page.timeline import Reply

# What comes within so many seconds goes out together; the state is told not more often than so.
_TOGETHER_S = 0.04
_STATE_S = 0.4
# Also where nothing happens: a lease runs, a worker may be gone.
_BEAT_S = 10.0
# So much goes out at once at most.
_MOST = 500
# What changes nothing of the run's state.
_MINOR = (TextDelta, ReasoningDelta, ToolProgress)


async def live(request: Request) -> Response:
    """The stream. `after` is the cursor of the page; Last-Event-ID, which comes with each further try, is newer."""
    run = await readable(request)
    after = sse.cursor(request.headers.get("last-event-id") or request.query_params.get("after", "0"))
    # Where the cursor is ahead of it, Redis came back with an older state.
    frames = _reload() if after > run.seq else _frames(request, run, after)
    return Stream(frames, beat_s=site_of(request).settings.heartbeat_ms / 1000)


class Fragments:
    """Gathers what changes in a timeline, and writes it as fragments for a page that shows what was `seen` of it."""

    def __init__(self, request: Request, run: RunState) -> None:
        self._request = request
        self._run = run
        self.timeline = Timeline()
        self._shown: set[str] = set()
        self._has_begun = False
        self._changed: dict[str, None] = {}
        self._added: dict[tuple[str, str], list[str]] = {}
        self._gone: list[str] = []
        self.count = 0

    def see(self, event: Event) -> None:
        """Take an event that the page has."""
        self.timeline.take(event)

    def take(self, event: Event) -> None:
        """Take one that it has not."""
        if not self._has_begun:
            self._has_begun, self._shown = True, set(self.timeline.entries)
        self.count += 1
        change = self.timeline.take(event)
        for entry in change.changed:
            self._changed[entry.entry_id] = None
        for entry_id in change.gone:
            self._drop(entry_id)
        if change.added is not None:
            self._add(*change.added)

    def _add(self, reply: Reply, field: str, text: str) -> None:
        if reply.entry_id in self._shown and reply.entry_id not in self._changed:
            self._added.setdefault((reply.entry_id, field), []).append(text)

    def _drop(self, entry_id: str) -> None:
        self._changed.pop(entry_id, None)
        for key in [key for key in self._added if key[0] == entry_id]:
            del self._added[key]
        if entry_id in self._shown:
            self._shown.discard(entry_id)
            self._gone.append(entry_id)

    def flush(self) -> str:
        """The fragments since the last time; empty where there is nothing to see."""
        parts = [partial(entry_id, "delete", "") for entry_id in self._gone]
        for (entry_id, field), texts in self._added.items():
            if entry_id not in self._changed:
                piece = Markup("<span>{}</span>").format("".join(texts))
                parts.append(partial(f"{entry_id}-{field}", "beforeend", piece))
        new: list[str] = []
        for entry_id in self._changed:
            text = render(self._request, "_entry.html", entry=self.timeline.entries[entry_id], run=self._run)
            if entry_id in self._shown:
                parts.append(partial(entry_id, "outerMorph", text))
            else:
                new.append(text)
        if new:
            parts.append(partial("timeline", "beforeend", "".join(new)))
        self._shown.update(self._changed)
        self._changed, self._added, self._gone, self.count = {}, {}, [], 0
        return "".join(parts)


def partial(target: str, swap: str, text: str) -> str:
    """A fragment with the place where it belongs."""
    return f'<hx-partial hx-target="#{escape(target)}" hx-swap="{swap}">{text}</hx-partial>'


class _State:
    """The run's state beside the timeline: read again when it is old, and not too often."""

    def __init__(self, request: Request, run_id: str) -> None:
        self._request = request
        self._run_id = run_id
        self._told_at = asyncio.get_running_loop().time()
        self._asks: list[str] | None = None
        self.is_old = True

    def left_s(self) -> float:
        """Until it is due."""
        now = asyncio.get_running_loop().time()
        return max(self._told_at + (_STATE_S if self.is_old else _BEAT_S) - now, 0.0)

    async def fragments(self) -> str:
        """What stands in the place of the old one. Forms stay as they are unless other things are asked."""
        run = await site_of(self._request).client.read(self._run_id)
        state = await state_of(self._request, run)
        self._told_at, self.is_old = asyncio.get_running_loop().time(), False
        parts = [partial("state", "innerMorph", render(self._request, "_state.html", **state))]
        asks = [ask.dom_id for ask in state["asks"]]
        if asks != self._asks:
            self._asks = asks
            parts.append(partial("asks", "innerMorph", render(self._request, "_asks.html", **state)))
        if run.status.is_final:
            parts.append(partial("say", "innerHTML", render(self._request, "_say.html", **state)))
        parts.append(render(self._request, "_title.html", run=run))
        return "".join(parts)


async def _frames(request: Request, run: RunState, after: int) -> AsyncGenerator[str, None]:
    """The body of the stream."""
    site, time = site_of(request), asyncio.get_running_loop().time
    fragments, state = Fragments(request, run), _State(request, run.run_id)
    events = site.client.events(run.run_id, voided=True)
    step: asyncio.Task[Event | None] | None = None
    flush_at = 0.0
    try:
        while True:
            step = step or asyncio.create_task(_next(events))
            wait_s = max(flush_at - time(), 0.0) if fragments.count else state.left_s()
            done, _ = await asyncio.wait({step}, timeout=wait_s)
            if done:
                event, step = step.result(), None
                if event is None:
                    break
                event = site.redaction.event(event)
                if event.seq <= after:
                    fragments.see(event)
                    continue
                flush_at = flush_at if fragments.count else time() + _TOGETHER_S
                fragments.take(event)
                state.is_old = state.is_old or not isinstance(event, _MINOR)
            if fragments.count and (time() >= flush_at or fragments.count >= _MOST):
                yield _event("", fragments.flush(), fragments.timeline.cursor)
            if not state.left_s():
                yield _event("", await state.fragments())
        yield _event("", fragments.flush() + await state.fragments(), fragments.timeline.cursor) + _event("done", "-")
    except (StoreUnavailable, RunNotFound):
        return  # the browser comes back, and is told then
    finally:
        await sse.close(events, step)


async def _reload() -> AsyncGenerator[str, None]:
    yield _event("reload")


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)


def _event(name: str, text: str = "-", cursor: int | None = None) -> str:
    """One event as it goes over the wire."""
    lines = [f"id: {cursor}"] if cursor is not None else []
    lines += [f"event: {name}"] if name else []
    lines += [f"data: {line}" for line in re.split("\r\n|\r|\n", text)]
    return "\n".join(lines) + "\n\n"
