"""Reading runs that have ended, and sessions, out of Redis as the records of an archive: page by page."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.archive.records import EventRecord, FileRecord, MessageRecord, Part, RunRecord, SessionRecord
from agentq.errors import NotFound, RunNotFound, StoreCorrupted
from agentq.events.encoding import decode_event
from agentq.messages import decode_message
from agentq.stores._records import run_of_hash
from agentq.stores._sessions import read_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.runs import RunState
    from agentq.stores.values import Scope

# A message or an event may have a megabyte.
_MESSAGES = 50
_EVENTS = 200

logger = logging.getLogger(__name__)


class ArchiveReader:
    """Heads and parts of units. `NotFound` while the parts are read means that the unit's time has passed meanwhile."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys

    async def state(self, run_id: str) -> tuple[RunState, str]:
        """A run's state and the digest of its request. Raises `RunNotFound`, `StoreCorrupted`."""
        raw: Mapping[bytes, bytes] = await self._pipeline.execute("HGETALL", self._keys.run(run_id))
        if not raw:
            raise RunNotFound.of(run_id)
        state = run_of_hash(run_id, [item for pair in raw.items() for item in pair])
        return state, raw.get(b"request_hash", b"").decode()

    async def session(self, session_id: str) -> tuple[SessionRecord, int]:
        """A session and how many messages it has now. Raises `SessionNotFound`."""
        state = await read_session(self._pipeline, self._keys, session_id)
        return SessionRecord.of(state, await self.values("session", session_id)), state.message_count

    async def values(self, scope: Scope, of: str) -> dict[str, Any]:
        """What tools keep for a run or a session, by name. Raises `StoreCorrupted`."""
        raw: Mapping[bytes, bytes] = await self._pipeline.execute("HGETALL", self._keys.values(scope, of))
        try:
            return {name.decode(): _json.loads(raw[name]) for name in sorted(raw)}
        except ValueError as error:
            raise StoreCorrupted(f"a value that is kept for {scope} {of} cannot be read: {error}") from error

    async def session_ids(self, user_id: str | None = None) -> AsyncIterator[str]:
        """Every session, or every one of a user, in no order; one may come twice."""
        cursor: Any = 0
        while True:
            cursor, members = await self._pipeline.execute(
                "ZSCAN", self._keys.sessions(user_id), cursor, "COUNT", _EVENTS
            )
            for member in members[::2]:
                yield member.decode()
            if int(cursor) == 0:
                return

    async def parts_of_run(self, run: RunRecord) -> AsyncIterator[Part]:
        """Messages, events and files of a run that has ended."""
        run_id = run.run_id
        async for index, message in self._messages(self._keys.messages(run_id), run.message_count):
            yield MessageRecord(run_id=run_id, index=index, message=message)
        last = 0
        async for event in self._events(run_id):
            last = event.seq
            yield event
        # The final event is never trimmed and never folded.
        if last != run.seq:
            raise RunNotFound(f"run {run_id}: its events end with {last}, not with {run.seq}")
        async for digest, content in self._files(self._keys.files(run_id)):
            yield FileRecord(run_id=run_id, digest=digest, content=content)

    async def parts_of_session(self, session: SessionRecord, messages: int) -> AsyncIterator[Part]:
        """The first so many messages of a session, and its files."""
        session_id = session.session_id
        async for index, message in self._messages(self._keys.session_messages(session_id), messages):
            yield MessageRecord(session_id=session_id, index=index, message=message)
        async for digest, content in self._files(self._keys.files("", session_id)):
            yield FileRecord(session_id=session_id, digest=digest, content=content)

    async def has_files(self, session_id: str, digests: set[str]) -> bool:
        """Whether the session has all of these files."""
        stored = await self._pipeline.execute("HKEYS", self._keys.files("", session_id))
        return digests <= {digest.decode() for digest in stored}

    async def _messages(self, key: str, count: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        for start in range(0, count, _MESSAGES):
            page = await self._pipeline.execute("LRANGE", key, start, min(start + _MESSAGES, count) - 1)
            for index, content in enumerate(page, start=start):
                decode_message(content)
                yield index, _json.loads(content)
            if start + len(page) < min(start + _MESSAGES, count):
                raise NotFound(f"{key} has {start + len(page)} messages, not {count}")

    async def _events(self, run_id: str) -> AsyncIterator[EventRecord]:
        start = "-"
        while True:
            page = await self._pipeline.execute("XRANGE", self._keys.events(run_id), start, "+", "COUNT", _EVENTS)
            for entry_id, fields in page:
                seq = int(entry_id.partition(b"-")[0])
                data, at_ms = _entry(fields)
                decode_event(data, run_id=run_id, seq=seq, at_ms=at_ms)
                yield EventRecord(run_id=run_id, seq=seq, at_ms=at_ms, event=_json.loads(data))
            if len(page) < _EVENTS:
                return
            start = f"({page[-1][0].decode()}"

    async def _files(self, key: str) -> AsyncIterator[tuple[str, str]]:
        for digest in sorted(await self._pipeline.execute("HKEYS", key)):
            content = await self._pipeline.execute("HGET", key, digest)
            if content is None:
                raise NotFound(f"{key} has lost {digest.decode()[:12]}…")
            yield digest.decode(), base64.b64encode(content).decode()


def _entry(fields: list[bytes] | dict[bytes, bytes]) -> tuple[bytes, int]:
    """The JSON and the time of an event, from either form in which redis-py gives the fields of an entry."""
    flat = fields if isinstance(fields, list) else [item for pair in fields.items() for item in pair]
    try:
        return flat[1], int(flat[3])
    except (IndexError, ValueError) as error:
        raise StoreCorrupted(f"an entry of the event stream cannot be read: {flat!r}") from error
