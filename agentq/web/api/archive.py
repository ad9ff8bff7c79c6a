"""Export: runs that have ended, as the NDJSON that `agentq import` reads."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from agentq.archive.exporting import Selection, export_archive
from agentq.archive.reading import ArchiveReader
from agentq.errors import Conflict
from agentq.runs import Status
from agentq.web.access import Action
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.operating import needs_redis
from agentq.web.api.requests import Export
from agentq.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime

    from starlette.responses import Response

    from agentq.archive.exporting import LeftOut
    from agentq.web.api.endpoint import Asked, B, Nothing, Q

_NDJSON = "application/x-ndjson"
# Lines are small and many; a chunk of this size is worth a write.
_CHUNK_BYTES = 64_000


async def export_runs(asked: Asked[Nothing, Export]) -> Response:
    """Export runs that have ended, newest first, with their sessions and files.

    Runs that are alive are left out. An archive that breaks off has no last line that says it is whole.
    """
    await asked.allow(Action.EXPORT)
    query = asked.query
    if query.session_id is not None:
        await asked.client.session(query.session_id)
    selection = Selection(
        status=None if query.status is None else Status(query.status),
        agent=query.agent,
        session_id=query.session_id,
        user_id=query.user_id,
        since_ms=_milliseconds(query.since) or 0,
        until_ms=_milliseconds(query.until),
    )
    return _archive(asked, selection, "agentq.ndjson")


async def export_run(asked: Asked[Nothing, Nothing]) -> Response:
    """Export one run that has ended, with its session and files."""
    run, _ = await asked.run(Action.EXPORT)
    if not run.status.is_final:
        raise Conflict(f"run {run.run_id} has not ended, so it is not exported: imported elsewhere it would run twice")
    return _archive(asked, Selection(run_ids=(run.run_id,)), f"{run.run_id}.ndjson")


def _archive(asked: Asked[B, Q], selection: Selection, name: str) -> Response:
    if asked.site.redaction.is_on:
        # An archive without its arguments could not be imported.
        raise Problem(403, "redacted", "this server redacts arguments; `agentq export` writes whole archives")
    with needs_redis():
        store = asked.client.insight.store
    lines = export_archive(store, ArchiveReader(store.pipeline, store.keys), selection)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_chunks(lines), media_type=_NDJSON, headers=headers)


async def _chunks(lines: AsyncGenerator[bytes | LeftOut, None]) -> AsyncIterator[bytes]:
    """Ends with the answer, however that ends: whoever goes away in the middle stops the reading."""
    chunk = bytearray()
    async with aclosing(lines):
        async for line in lines:
            if isinstance(line, bytes):
                chunk += line + b"\n"
            if len(chunk) >= _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    yield bytes(chunk)


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else max(round(time.timestamp() * 1000), 0)


endpoints = [
    Endpoint("GET", f"{API}/export", export_runs, "archive", {200: _NDJSON}, query=Export, problems=(404, 501)),
    Endpoint("GET", f"{API}/runs/{{run_id}}/export", export_run, "archive", {200: _NDJSON}, problems=(404, 409, 501)),
]
routes = routes_of(endpoints)
