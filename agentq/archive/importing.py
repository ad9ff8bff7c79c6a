"""Reading an archive back: every line is checked, and each run and each session comes in whole or not at all."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentq import _json
from agentq.archive.records import (
    FORMAT,
    MAX_FIRST_LINE_BYTES,
    MAX_LINE_BYTES,
    BrokenOffRecord,
    EndRecord,
    EventRecord,
    FileRecord,
    Head,
    Header,
    MessageRecord,
    Part,
    Record,
    RunRecord,
    SessionRecord,
    Trailer,
    UnitDigest,
    canonical,
    decode,
    encode,
    wrong,
)
from agentq.archive.restoring import Staged
from agentq.errors import Conflict, NotFound, StoreCorrupted
from agentq.events.encoding import decode_event, is_delta, is_known
from agentq.messages import decode_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from typing import BinaryIO

    from agentq.archive.reading import ArchiveReader
    from agentq.archive.restoring import Restorer
    from agentq.archive.terms import Terms


_NO_HEADER = 'it is not the first line of an export, {"type":"header","agentq":"export",...}'


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one run or session: `known` was there already, with the same content."""

    kind: Literal["run", "session"]
    name: str
    outcome: Literal["new", "known", "conflict", "broken off"]
    reason: str = ""


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. Raises `InvalidInput` for one that is too long to be of an archive."""
    number, limit = 1, MAX_FIRST_LINE_BYTES
    while line := file.readline(limit + 1):
        if len(line) > limit:
            what = f"it has more than {limit} bytes; "
            raise wrong(number, what + ("no line of an export is so long" if number > 1 else _NO_HEADER))
        yield line
        number, limit = number + 1, MAX_LINE_BYTES


async def import_archive(
    restorer: Restorer, reader: ArchiveReader, lines: Iterator[bytes], terms: Terms
) -> AsyncGenerator[Imported, None]:
    """Read archives, one after the other, and yield what became of each unit.

    Raises `InvalidInput` that names the line at fault: the units before it are in, and importing them again changes
    nothing. Raises it at the end, too, when the last archive has no trailer.
    """
    archive = _Archive(restorer, reader, terms)
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip() and (imported := await archive.take(decode(line, number), line, number)):
                yield imported
    finally:
        await archive.aclose()
    archive.check_end(number)


class _Archive:
    """The place in an archive: what may come next, and what has come."""

    def __init__(self, restorer: Restorer, reader: ArchiveReader, terms: Terms) -> None:
        self._restorer = restorer
        self._reader = reader
        self._terms = terms
        self._has_begun = self._is_open = False
        self._unit: _Unit | None = None
        self._counts = {"run": 0, "session": 0}
        self._other_sessions: set[str] = set()

    async def take(self, record: Record, line: bytes, number: int) -> Imported | None:
        """Take the next line in; what became of the unit that it ends."""
        if isinstance(record, Header):
            self._begin(record, number)
            return None
        if not self._is_open:
            raise wrong(number, _NO_HEADER)
        unit = self._unit
        match record:
            case RunRecord() | SessionRecord():
                if unit is not None:
                    raise wrong(number, f"{unit.what} has no end before it; lines are missing")
                self._unit = await self._unit_of(record)
                self._unit.digest.add(canonical(line))
                self._counts[record.type] += 1
            case Trailer():
                self._end(record, number)
            case _ if unit is None or unit.named != _name(record):
                raise wrong(number, f"{record.type}: it does not belong to {unit.what if unit else 'anything'}")
            case EndRecord():
                self._unit = None
                return await self._finish(unit, record, number)
            case BrokenOffRecord():
                self._unit = None
                await unit.staged_discard()
                return unit.imported("broken off", record.reason)
            case _:
                unit.digest.add(canonical(line))
                await unit.take(record, number)
        return None

    def _begin(self, header: Header, number: int) -> None:
        if header.version > FORMAT:
            raise wrong(
                number,
                f"version {header.version} was written by a newer agentq; this one reads up to {FORMAT}: update it",
                field="version",
            )
        if self._is_open:
            raise wrong(number, "an export begins before the one above it has ended; lines are missing")
        self._has_begun = self._is_open = True
        self._counts = {"run": 0, "session": 0}

    def _end(self, trailer: Trailer, number: int) -> None:
        if self._unit is not None:
            raise wrong(number, f"{self._unit.what} has no end; lines are missing")
        if (trailer.runs, trailer.sessions) != (self._counts["run"], self._counts["session"]):
            raise wrong(
                number,
                f"{trailer.runs} runs and {trailer.sessions} sessions were exported, but {self._counts['run']} and "
                f"{self._counts['session']} are here; lines are missing",
            )
        self._is_open = False

    def check_end(self, number: int) -> None:
        """Raise `InvalidInput` unless the last archive is whole."""
        if not self._has_begun:
            raise wrong(max(number, 1), "the export is empty")
        if self._is_open:
            raise wrong(number, "the export ends here without its last line: it was cut; what is whole of it is in")

    async def _unit_of(self, head: Head) -> _Unit:
        if isinstance(head, SessionRecord):
            is_known = await self._restorer.has_session(head.session_id)
            key = self._restorer.keys.session(head.session_id)
        else:
            is_known = head.session_id in self._other_sessions or await self._restorer.has_run(head.run_id)
            key = self._restorer.keys.run(head.run_id)
        return _Unit(head, None if is_known else Staged(self._restorer, key))

    async def _finish(self, unit: _Unit, end: EndRecord, number: int) -> Imported:
        """The last checks, and the unit comes in. What has been staged goes if it does not."""
        try:
            unit.check(end, number)
            return await self._restore(unit)
        finally:
            await unit.staged_discard()

    async def _restore(self, unit: _Unit) -> Imported:
        head, staged = unit.head, unit.staged
        if isinstance(head, RunRecord) and head.session_id in self._other_sessions:
            return unit.imported(
                "conflict", f"{unit.what} belongs to session {head.session_id!r}, which is another here"
            )
        try:
            if staged is not None:
                if isinstance(head, RunRecord):
                    is_new = await self._restorer.run(head, staged, self._terms.of_run(head))
                else:
                    is_new = await self._restorer.session(head, staged, self._terms.of_session)
                if is_new:
                    return unit.imported("new")
            reason = await self._difference(unit)
        except Conflict as conflict:
            return unit.imported("conflict", str(conflict))
        except (NotFound, StoreCorrupted) as error:
            reason = f"it cannot be compared with what is here: {error}"
        if not reason:
            return unit.imported("known")
        if isinstance(head, SessionRecord):
            self._other_sessions.add(head.session_id)
        return unit.imported("conflict", f"{unit.what} is here and is left as it is: {reason}")

    async def _difference(self, unit: _Unit) -> str:
        """How the unit that is here differs from that of the archive; empty when it does not."""
        if isinstance(unit.head, SessionRecord):
            return await self._session_difference(unit, unit.head)
        state, request_hash = await self._reader.state(unit.head.run_id)
        if not state.status.is_final:
            return f"it is {state.status}"
        # An archive that holds none may be older than they are.
        values = await self._reader.values("run", unit.head.run_id) if unit.head.values else {}
        found = RunRecord.of(state, request_hash, values)
        content = UnitDigest()
        content.add(encode(found))
        async for part in self._reader.parts_of_run(found):
            content.add(encode(part))
        return "" if content.hex() == unit.content.hex() else "it has other content"

    async def _session_difference(self, unit: _Unit, head: SessionRecord) -> str:
        """A session that has gone on since it was exported begins with what was exported, and is no other for that."""
        found, messages = await self._reader.session(head.session_id)
        if head.user_id is not None and found.user_id != head.user_id:
            return "it belongs to another user" if found.user_id else "it belongs to no user"
        if messages < unit.counts[MessageRecord]:
            return f"it has {messages} messages, not {unit.counts[MessageRecord]} or more"
        content = UnitDigest()
        async for part in self._reader.parts_of_session(found, unit.counts[MessageRecord]):
            if isinstance(part, MessageRecord):
                content.add(encode(part))
        if content.hex() != unit.transcript.hex():
            return "it has other messages"
        return "" if await self._reader.has_files(head.session_id, unit.files) else "it lacks files"

    async def aclose(self) -> None:
        """Delete what is staged of a unit that will not be finished."""
        if self._unit is not None:
            await self._unit.staged_discard()


class _Unit:
    """A run or session that is being read. Without `staged` it is only compared with what is here."""

    def __init__(self, head: Head, staged: Staged | None) -> None:
        self.head = head
        self.staged = staged
        self.named = head.run_id if isinstance(head, RunRecord) else head.session_id
        self.what = f"{head.type} {self.named}"
        self.digest = UnitDigest()
        # The same as this version writes it, whichever wrote the archive.
        self.content = UnitDigest()
        self.content.add(encode(head))
        self.transcript = UnitDigest()
        self.counts: dict[type[Part], int] = {MessageRecord: 0, EventRecord: 0, FileRecord: 0}
        self.files: set[str] = set()
        self._open_calls: set[str] = set()
        self._last_seq = 0

    def imported(self, outcome: Literal["new", "known", "conflict", "broken off"], reason: str = "") -> Imported:
        return Imported(self.head.type, self.named, outcome, reason)

    async def staged_discard(self) -> None:
        if self.staged is not None:
            await self.staged.discard()

    async def take(self, part: Part, number: int) -> None:
        """Check a part and stage it."""
        self.content.add(encode(part))
        match part:
            case MessageRecord():
                await self._take_message(part, number)
            case EventRecord():
                await self._take_event(part, number)
            case FileRecord():
                await self._take_file(part, number)
        self.counts[type(part)] += 1

    async def _take_message(self, part: MessageRecord, number: int) -> None:
        if part.index != self.counts[MessageRecord]:
            raise wrong(number, f"message: index is {part.index}, not {self.counts[MessageRecord]}", field="index")
        data = _json.dumps(part.message)
        try:
            message = decode_message(data)
        except StoreCorrupted as error:
            raise wrong(number, f"message: {error}", field="message") from error
        self._open_calls.update(call.call_id for call in message.tool_calls)
        self._open_calls.difference_update(result.call_id for result in message.tool_results)
        self.transcript.add(encode(part))
        if self.staged is not None:
            await self.staged.message(data)

    async def _take_event(self, part: EventRecord, number: int) -> None:
        last = self.head.seq if isinstance(self.head, RunRecord) else 0
        if not self._last_seq < part.seq <= last:
            raise wrong(
                number, f"event: seq is {part.seq}, but must be above {self._last_seq} and at most {last}", field="seq"
            )
        self._last_seq = part.seq
        data = _json.dumps(part.event)
        try:
            event = decode_event(data, run_id=part.run_id, seq=part.seq, at_ms=part.at_ms)
        except StoreCorrupted as error:
            raise wrong(number, f"event: {error}", field="event") from error
        if not is_known(event):
            what = f"event {part.seq} of run {part.run_id} cannot be read"
            raise wrong(number, f"event: {what}: this version knows no {event.type!r}", field="event")
        if self.staged is not None:
            await self.staged.event(part.seq, "d" if is_delta(event) else "e", data, part.at_ms)

    async def _take_file(self, part: FileRecord, number: int) -> None:
        try:
            content = base64.b64decode(part.content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise wrong(number, f"file: content is not base 64: {error}", field="content") from error
        if hashlib.sha256(content).hexdigest() != part.digest:
            raise wrong(number, "file: digest is not the SHA-256 of its content", field="digest")
        if part.digest in self.files:
            raise wrong(number, "file: it has come already", field="digest")
        self.files.add(part.digest)
        if self.staged is not None:
            await self.staged.file(part.digest, content)

    def check(self, end: EndRecord, number: int) -> None:
        """Raise `InvalidInput` unless the unit is whole and sound."""
        said = {MessageRecord: end.messages, EventRecord: end.events, FileRecord: end.files}
        for kind, count in self.counts.items():
            if said[kind] != count:
                field = f"{kind.model_fields['type'].default}s"
                raise wrong(number, f"end: {self.what} has {count} {field}, not {said[kind]}", field=field)
        if end.sha256 is not None and end.sha256 != self.digest.hex():
            raise wrong(
                number,
                f"end: the lines of {self.what} are not those that were exported (sha256 differs); "
                "leave sha256 out if they were changed on purpose",
                field="sha256",
            )
        if self._open_calls:
            calls = ", ".join(sorted(self._open_calls))
            raise wrong(number, f"end: {self.what} has calls without a result: {calls}", field="messages")
        if isinstance(self.head, RunRecord):
            if self.counts[MessageRecord] != self.head.message_count:
                raise wrong(number, f"end: {self.what} has another message_count", field="message_count")
            if self._last_seq != self.head.seq:
                raise wrong(number, f"end: the last event of {self.what} is not its seq", field="seq")


def _name(record: EndRecord | BrokenOffRecord | Part) -> str | None:
    session_id = None if isinstance(record, EventRecord) else record.session_id
    return record.run_id or session_id
