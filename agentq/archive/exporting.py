"""Writing an archive: which runs and sessions go into it, in lines, page by page.

Only runs that have ended are exported: one that is alive would be carried out twice, here and where it is imported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentq.archive.records import (
    BrokenOffRecord,
    EndRecord,
    EventRecord,
    FileRecord,
    Head,
    Header,
    MessageRecord,
    Part,
    RunRecord,
    Trailer,
    UnitDigest,
    encode,
)
from agentq.errors import NotFound, RunNotFound, SessionNotFound, StoreCorrupted
from agentq.stores.filters import RunFilter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from agentq.archive.reading import ArchiveReader
    from agentq.runs import Status
    from agentq.stores.base import Store

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: the named runs, or else those that fit everything else. `until_ms` itself is not included.

    Times are those of creation. A run comes with its session, and a session with its whole transcript. Without any
    condition, and for a user or a session, sessions come whose runs are gone, too.
    """

    run_ids: tuple[str, ...] = ()
    status: Status | None = None
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    since_ms: int = 0
    until_ms: int | None = None

    @property
    def narrows_runs(self) -> bool:
        """Whether it asks for runs by what sessions have not."""
        return bool(self.run_ids or self.status or self.agent or self.since_ms or self.until_ms is not None)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not in the archive, or cannot be used there, and why."""

    name: str
    why: Literal["alive", "not found", "broken"]
    reason: str


async def export_archive(
    store: Store, reader: ArchiveReader, selection: Selection
) -> AsyncGenerator[bytes | LeftOut, None]:
    """The lines of an archive without their newlines, newest run first, and between them what is left out.

    Raises `SessionNotFound` when there is no such session, `StoreUnavailable`; what was written until then has no
    trailer, so that nobody takes it for whole.
    """
    export = _Export(store, reader, selection)
    yield encode(Header(exported_ms=time.time_ns() // 1_000_000))
    if selection.session_id is not None:
        async for item in export.session(selection.session_id, is_asked_for=True):
            yield item
    async for run_id in export.run_ids():
        async for item in export.run(run_id):
            yield item
    if selection.session_id is None and not selection.narrows_runs:
        async for session_id in reader.session_ids(selection.user_id):
            async for item in export.session(session_id):
                yield item
    yield encode(Trailer(runs=export.runs, sessions=len(export.sessions)))


class _Export:
    """What one export has written so far. It remembers the ids of sessions, so that each comes once."""

    def __init__(self, store: Store, reader: ArchiveReader, selection: Selection) -> None:
        self._store = store
        self._reader = reader
        self._selection = selection
        self.runs = 0
        self.sessions: set[str] = set()

    async def run_ids(self) -> AsyncIterator[str]:
        selection = self._selection
        if selection.run_ids:
            for run_id in dict.fromkeys(selection.run_ids):
                yield run_id
            return
        before = None
        while True:
            page = await self._store.list(
                RunFilter(
                    status=selection.status,
                    agent=selection.agent,
                    session_id=selection.session_id,
                    user_id=selection.user_id,
                    before=before,
                    limit=_PAGE,
                )
            )
            for run in page:
                if run.created_ms >= selection.since_ms and (
                    selection.until_ms is None or run.created_ms < selection.until_ms
                ):
                    yield run.run_id
            if len(page) < _PAGE:
                return
            before = page[-1].run_id

    async def run(self, run_id: str) -> AsyncIterator[bytes | LeftOut]:
        """A run, behind its session."""
        try:
            state, request_hash = await self._reader.state(run_id)
        except RunNotFound as error:
            # Its time has passed since it was listed.
            if self._selection.run_ids:
                yield LeftOut(run_id, "not found", str(error))
            return
        except StoreCorrupted as error:
            yield LeftOut(run_id, "broken", str(error))
            return
        if not state.status.is_final:
            yield LeftOut(run_id, "alive", f"run {run_id} is {state.status}; only runs that have ended are exported")
            return
        if state.session_id is not None:
            async for item in self.session(state.session_id):
                yield item
        try:
            head = RunRecord.of(state, request_hash, await self._reader.values("run", run_id))
        except StoreCorrupted as error:
            yield LeftOut(run_id, "broken", str(error))
            return
        self.runs += 1
        async for item in self._unit(head, self._reader.parts_of_run(head)):
            yield item

    async def session(self, session_id: str, *, is_asked_for: bool = False) -> AsyncIterator[bytes | LeftOut]:
        """A session, unless it has come already."""
        if session_id in self.sessions:
            return
        try:
            head, messages = await self._reader.session(session_id)
        except StoreCorrupted as error:
            yield LeftOut(session_id, "broken", str(error))
            return
        except SessionNotFound:
            # Its runs may be kept for longer than it is.
            if is_asked_for and not await self._store.list(RunFilter(session_id=session_id, limit=1)):
                raise
            return
        self.sessions.add(session_id)
        async for item in self._unit(head, self._reader.parts_of_session(head, messages)):
            yield item

    async def _unit(self, head: Head, parts: AsyncIterator[Part]) -> AsyncIterator[bytes | LeftOut]:
        digest, counts = UnitDigest(), {MessageRecord: 0, EventRecord: 0, FileRecord: 0}
        run_id, session_id = named_by(head)
        line = encode(head)
        digest.add(line)
        yield line
        try:
            async for part in parts:
                counts[type(part)] += 1
                line = encode(part)
                digest.add(line)
                yield line
        except (NotFound, StoreCorrupted) as error:
            yield encode(BrokenOffRecord(run_id=run_id, session_id=session_id, reason=str(error)))
            yield LeftOut(run_id or session_id or "", "broken", str(error))
            return
        end = EndRecord(
            run_id=run_id,
            session_id=session_id,
            messages=counts[MessageRecord],
            events=counts[EventRecord],
            files=counts[FileRecord],
            sha256=digest.hex(),
        )
        yield encode(end)


def named_by(head: Head) -> tuple[str | None, str | None]:
    """The run id and the session id by which the parts of a unit name it; one of them is None."""
    return (head.run_id, None) if isinstance(head, RunRecord) else (None, head.session_id)
