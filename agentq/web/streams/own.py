"""Our own events: as server-sent events, whose id is the cursor, and as lines of JSON."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from agentq import sse
from agentq.web.access import Action
from agentq.web.site import site_of
from agentq.web.streams.serving import NDJSON, RETRY_MS, SSE, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

    from agentq.events.model import Event
    from agentq.web.site import Site


async def watch(request: Request) -> Response:
    """The events of a run past the cursor, then live until it has ended.

    The cursor is `Last-Event-ID`, or `after` or `lastEventId` in the query. 204 says that nothing will follow.
    """
    site = site_of(request)
    run = await site.client.read(request.path_params["run_id"])
    await site.access.allow(request, Action.READ, run)
    query = request.query_params
    given = request.headers.get("last-event-id") or query.get("lastEventId") or query.get("after")
    after = sse.cursor(given or 0)
    if not sse.has_more(run, after):
        return Response(status_code=204)
    lines = request.url.path.endswith(".ndjson") or _wants_lines(request)
    chunks = _chunks(site, run.run_id, after, line if lines else sse.frame, begin="" if lines else RETRY)
    return Stream(chunks, beat_s=site.settings.heartbeat_ms / 1000, media_type=NDJSON if lines else SSE)


RETRY = f"retry: {RETRY_MS}\n\n"


def line(event: Event) -> str:
    """One event as a line; its `seq` is the cursor."""
    return f"{event.model_dump_json()}\n"


def _wants_lines(request: Request) -> bool:
    accepts = request.headers.get("accept", "")
    return NDJSON in accepts and SSE not in accepts


async def _chunks(
    site: Site, run_id: str, after: int, write: Callable[[Event], str], *, begin: str
) -> AsyncGenerator[str, None]:
    if begin:
        yield begin
    async with aclosing(site.client.events(run_id, after=after)) as events:
        async for event in events:
            yield write(site.redaction.event(event))


routes = [
    Route("/api/v1/runs/{run_id}/events", watch, name="events"),
    Route("/api/v1/runs/{run_id}/events.ndjson", watch, name="event_lines"),
]
