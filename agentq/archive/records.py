"""The lines of an archive: what each of them holds, and what makes it wrong. docs/guide/retention.md shows them.

A header; then units, one for each session and each run: a head (`session` or `run`), its messages, events and files,
and an `end` with their counts; then a trailer, so that a file which was cut is known as such.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentq import _json
from agentq.errors import InvalidInput, StoreCorrupted
from agentq.limits import limits_of
from agentq.runs import PROMPT_EXCERPT, SCHEMA_VERSION, RunState, SessionState, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

# Grows when a reader of the last version would get it wrong.
FORMAT = 1
# Lines, not runs, stand in memory: a message, an event or a file at a time. Redis takes 512 MB for each, whatever the
# settings allowed when it was stored; in base 64 that is a third more, and there is something around it.
MAX_LINE_BYTES = 720_000_000
# What is no archive at all is known as such before much of it is read.
MAX_FIRST_LINE_BYTES = 100_000

_RunId = Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
# What `enqueue` takes as an id: text without control characters.
_Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Outcome = Literal["completed", "failed", "cancelled"]
_Values = dict[Annotated[str, Field(min_length=1, max_length=1000)], Any]
# What a record of a run holds beside its state.
_NOT_OF_STATE = ("type", "request_hash", "values")


class _Record(BaseModel):
    """Strict: a number in quotes is a mistake. Unknown fields are ignored: a newer minor version may write some."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Header(_Record):
    """The first line."""

    type: Literal["header"] = "header"
    agentq: Literal["export"] = "export"
    version: Annotated[int, Field(ge=1)] = FORMAT
    exported_ms: _Count = 0


class SessionRecord(_Record):
    """A session, and what tools keep for it; the messages that its ended runs left and its files follow."""

    type: Literal["session"] = "session"
    session_id: _Id
    user_id: _Id | None = None
    run_count: _Count
    created_ms: _Count
    used_ms: _Count
    values: _Values = {}

    @classmethod
    def of(cls, state: SessionState, values: Mapping[str, Any]) -> SessionRecord:
        """Raises `StoreCorrupted`."""
        fields = {name: getattr(state, name) for name in cls.model_fields if name not in ("type", "values")}
        try:
            return cls.model_validate({**fields, "values": dict(values)})
        except ValidationError as error:
            raise StoreCorrupted(f"session {state.session_id!r} cannot be exported: {error}") from error


class RunRecord(_Record):
    """A run that has ended: the fields of `RunState` under their names; its messages, events and files follow.

    `values` are what its tools have kept. `request_hash` tells whether a repeated idempotency key comes with the same
    input.
    """

    type: Literal["run"] = "run"
    run_id: _RunId
    agent: _Name
    status: _Outcome
    prompt: Annotated[str, Field(max_length=PROMPT_EXCERPT)] = ""
    queue: _Name = "default"
    model: _Id | None = None
    session_id: _Id | None = None
    user_id: _Id | None = None
    metadata: dict[str, Any] = {}
    iteration: _Count = 0
    turn: _Count = 0
    errors: _Count = 0
    recoveries: _Count = 0
    signals: _Count = 0
    fence: _Count = 0
    committed: _Count = 0
    cancel_reason: str | None = None
    last_error: str | None = None
    # Tokens and cost, and the name of the prices.
    usage: dict[str, _Count | _Id] = {}
    seq: _Count = 0
    wake: _Count = 0
    message_count: _Count = 0
    history_length: _Count = 0
    ttl_ms: dict[_Outcome, Annotated[int, Field(ge=1, le=2**53)]] = {}
    tools: tuple[_Id, ...] | None = None
    without: tuple[_Id, ...] = ()
    idempotency_key: _Id | None = None
    request_hash: str = ""
    created_ms: _Count = 0
    updated_ms: _Count = 0
    finished_ms: _Count = 0
    version: Annotated[int, Field(ge=0, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    parent_run_id: _RunId | None = None
    forked_from: _RunId | None = None
    depth: _Count = 0
    limits: dict[str, Any] | None = None
    started_ms: _Count = 0
    progressed_ms: _Count = 0
    counted: _Count = 0
    retried_usage: dict[str, _Count | _Id] = {}
    values: _Values = {}

    @classmethod
    def of(cls, state: RunState, request_hash: str, values: Mapping[str, Any]) -> RunRecord:
        """Raises `StoreCorrupted`."""
        fields = {name: getattr(state, name) for name in cls.model_fields if name not in _NOT_OF_STATE}
        fields |= {"status": str(state.status), "request_hash": request_hash, "values": dict(values)}
        fields["limits"] = state.limits.given() if state.limits else None
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise StoreCorrupted(f"run {state.run_id} cannot be exported: {error}") from error

    @property
    def state(self) -> RunState:
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_OF_STATE}
        return RunState(**{**fields, "status": Status(self.status), "limits": limits_of(self.limits or {})})


class MessageRecord(_Record):
    """One message of the head above; `index` counts from 0."""

    type: Literal["message"] = "message"
    run_id: _RunId | None = None
    session_id: _Id | None = None
    index: _Count
    message: dict[str, Any]


class EventRecord(_Record):
    """One event of the run above, as it is stored: deltas are folded into the reply that they make up."""

    type: Literal["event"] = "event"
    run_id: _RunId
    seq: Annotated[int, Field(ge=1, le=2**53)]
    at_ms: _Count
    event: dict[str, Any]


class FileRecord(_Record):
    """One file of the head above: the SHA-256 of its content in hex, and the content in base 64."""

    type: Literal["file"] = "file"
    run_id: _RunId | None = None
    session_id: _Id | None = None
    digest: _Digest
    content: str


class EndRecord(_Record):
    """The end of a unit: how many lines of each kind it has, and the SHA-256 of them all.

    Who changes an archive takes `sha256` out.
    """

    type: Literal["end"] = "end"
    run_id: _RunId | None = None
    session_id: _Id | None = None
    messages: _Count
    events: _Count = 0
    files: _Count
    sha256: _Digest | None = None


class BrokenOffRecord(_Record):
    """In place of an end: the unit went while it was being exported, or cannot be read. Nobody imports it."""

    type: Literal["broken_off"] = "broken_off"
    run_id: _RunId | None = None
    session_id: _Id | None = None
    reason: str


class Trailer(_Record):
    """The last line."""

    type: Literal["trailer"] = "trailer"
    runs: _Count
    sessions: _Count


Part = MessageRecord | EventRecord | FileRecord
Head = RunRecord | SessionRecord
Record = Header | Head | Part | EndRecord | BrokenOffRecord | Trailer

_record: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


def encode(record: Record) -> bytes:
    """The record as one line."""
    return _record.serializer.to_json(record, exclude_none=True)


def decode(line: bytes, number: int) -> Record:
    """Read line `number`. Raises `InvalidInput` that names the line and the field."""
    try:
        return _record.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            reason = first["msg"].removeprefix("Invalid JSON: ").replace(" at line 1 column ", " at column ")
            raise wrong(number, f"it is not JSON: {reason}") from error
        # The first part of the place is the record's type.
        field = ".".join(str(part) for part in first["loc"][1:])
        kind = f"{first['loc'][0]}: " if first["loc"] else ""
        raise wrong(number, f"{kind}{field + ': ' if field else ''}{first['msg']}", field=field or None) from error


def wrong(number: int, what: str, *, field: str | None = None) -> InvalidInput:
    """What is wrong with line `number`, as an exception."""
    return InvalidInput(f"line {number}: {what}", field=field or f"line {number}")


def canonical(line: bytes) -> bytes:
    """A line that `decode` has found good, as `encode` writes it: without blanks between its values."""
    return _json.dumps(_json.loads(line))


class UnitDigest:
    """The SHA-256 of the canonical lines of a unit."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self._hash.update(line + b"\n")

    def hex(self) -> str:
        return self._hash.hexdigest()
