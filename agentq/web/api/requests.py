"""What the API takes, as models: bodies and queries. What they cannot say is checked where it always is, in intake."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue

from agentq.attachments import File
from agentq.errors import InvalidInput
from agentq.limits import RunLimits, Window
from agentq.runs import Status
from agentq.schedules import CatchUp, Overlap
from agentq.web.api.endpoint import Taken

Id = Annotated[str, Field(min_length=1, max_length=200)]
AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Remark = Annotated[str, Field(max_length=1000)]
By = Annotated[str, Field(max_length=1000, description="Who says it, where the server does not know.")]


def _check_is_written(value: object) -> object:
    """Numbers are no times here: nobody could tell seconds from milliseconds."""
    if not isinstance(value, str) or not re.match(r"[0-9]{4}-", value):
        raise ValueError("must be written as in 2026-01-31T18:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_check_is_written)]
Day = Annotated[date, BeforeValidator(_check_is_written)]
Limit = Annotated[int, Field(ge=1, le=1000)]


class UrlFile(Taken):
    """A file that the model's provider fetches."""

    url: Annotated[str, Field(max_length=8000, pattern=r"^https?://")]
    media_type: str | None = None
    name: str | None = None

    def read(self, field: str) -> File:
        return File(url=self.url, media_type=self.media_type, name=self.name)


class DataFile(Taken):
    """A file with its content, in Base64."""

    data: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
    media_type: str | None = None
    name: str | None = None

    def read(self, field: str) -> File:
        try:
            content = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"{field}.data is no Base64: {error}", field=field) from error
        return File(content=content, media_type=self.media_type, name=self.name)


Files = Annotated[tuple[UrlFile | DataFile, ...], Field(max_length=100)]


def files_of(given: tuple[UrlFile | DataFile, ...]) -> list[File]:
    """The files to attach. Raises `InvalidInput`."""
    return [each.read(f"files[{number}]") for number, each in enumerate(given)]


class TimesToLive(Taken):
    """How long a run is kept when it has ended, in seconds, by outcome."""

    completed: float | None = None
    failed: float | None = None
    cancelled: float | None = None


class StartRun(Taken):
    """A run to start. `delay_s` puts it off, or `at`, a time with its zone. For the rest see `enqueue`."""

    in_json: ClassVar[frozenset[str]] = frozenset(
        {"metadata", "delay_s", "tools", "without", "ttl_s", "limits", "concurrency", "files"}
    )

    agent: AgentName
    prompt: Annotated[str, Field(min_length=1)]
    session_id: Id | None = None
    user_id: Id | None = None
    metadata: dict[str, JsonValue] | None = None
    queue: AgentName | None = None
    model: Id | None = None
    delay_s: Annotated[float, Field(ge=0, le=366 * 86_400)] = 0.0
    at: Time | None = None
    tools: tuple[str, ...] | None = None
    without: tuple[Literal["memory", "retrieval"], ...] = ()
    when_busy: Literal["queue", "reject", "interrupt", "replace"] | None = None
    ttl_s: float | TimesToLive | None = None
    limits: RunLimits | None = None
    concurrency_key: Id | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    tenant: Id | None = None
    priority: Literal["high", "normal", "low"] | None = None
    files: Files = ()


class ListRuns(Taken):
    """Which runs to list. `cursor` is the `next_cursor` of the page before."""

    status: Status | None = None
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: Limit = 50


class Wait(Taken):
    """How many seconds to wait for the end of the run."""

    wait: Annotated[float, Field(ge=0, le=60)] = 0.0


class CancelRun(Taken):
    """Why it is cancelled, and how many seconds to wait for its end."""

    reason: Remark = ""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    by: By = ""


class PauseRun(Taken):
    """Why it is paused."""

    reason: Remark = ""
    by: By = ""


class Said(Taken):
    """Who does it."""

    by: By = ""


class SteerRun(Taken):
    """A message into a run that goes on."""

    in_json: ClassVar[frozenset[str]] = frozenset({"files"})

    text: Annotated[str, Field(min_length=1)]
    files: Files = ()
    by: By = ""


class FollowUp(Taken):
    """The next prompt of a session."""

    in_json: ClassVar[frozenset[str]] = frozenset({"files"})

    prompt: Annotated[str, Field(min_length=1)]
    files: Files = ()


class Say(FollowUp):
    """The next prompt of a session. Without `agent`, that of its last run answers."""

    agent: AgentName | None = None


class ForkRun(Taken):
    """What of the run the new one begins with: up to the end of `iteration`, or all; and what is asked then."""

    iteration: Annotated[int, Field(ge=0)] | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    session_id: Id | None = None


class SetLimits(Taken):
    """Limits of a run; what is left out stays as it was."""

    limits: RunLimits
    by: By = ""


class Approve(Taken):
    """Which call is allowed, and with which other arguments, if so. One call that waits need not be named."""

    call_id: str | None = None
    arguments: dict[str, JsonValue] | None = None
    by: By = ""


class Deny(Taken):
    """Which call is denied, and why: the model reads that."""

    call_id: str | None = None
    reason: Remark = ""
    by: By = ""


class Answer(Taken):
    """An answer to what a run asks; or, of a call whose outcome is not known, what became of it.

    A call may ask several things, one after the other: with the question's `number` no answer goes to the next one.
    """

    call_id: str | None = None
    number: int | None = None
    answer: JsonValue = None
    outcome: Literal["did_not_happen", "unknown"] | None = None
    by: By = ""


class Signal(Taken):
    """Something that happened outside. The same `signal_id` again has no effect."""

    name: Id
    data: JsonValue = None
    signal_id: Id | None = None
    by: By = ""


class Newest(Taken):
    """Of how many runs."""

    limit: Limit = 50


class ListSessions(Taken):
    """Which sessions to list. `cursor` is the `next_cursor` of the page before."""

    user_id: str | None = None
    cursor: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Limit = 50


class From(Taken):
    """From which message on."""

    start: Annotated[int, Field(ge=0, le=2**31)] = 0


class DeleteSession(Taken):
    """Whether to cancel a run of it that goes on."""

    cancel: bool = False


class PutSchedule(Taken):
    """A prompt at the times of a cron expression of five fields, in a time zone; see `Schedule`."""

    agent: AgentName
    prompt: Annotated[str, Field(min_length=1)]
    cron: Annotated[str, Field(max_length=200)]
    timezone: str = "UTC"
    catch_up: CatchUp = "last"
    overlap: Overlap = "allow"
    options: dict[str, JsonValue] = Field(default_factory=dict)


class PauseAll(Taken):
    """What to pause: the runs of an agent, of a queue, or all; and why."""

    agent: AgentName | None = None
    queue: AgentName | None = None
    reason: Remark = ""
    by: By = ""


class ResumeAll(Taken):
    """What to let go on, as it was paused."""

    agent: AgentName | None = None
    queue: AgentName | None = None


class AskSpent(Taken):
    """Of whom, and in which window: the hour, the `day` (that of UTC which it is now, if none is named) or in total."""

    user_id: str | None = None
    session_id: str | None = None
    agent: str | None = None
    window: Window = "day"
    day: Day | None = None


class Export(Taken):
    """Which runs that have ended to export: those named, or those that fit the rest. Times are of their creation."""

    status: Literal["completed", "failed", "cancelled"] | None = None
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    since: Time | None = None
    until: Time | None = None
