"""What the API gives, as models: runs, messages, sessions. Times are milliseconds since 1970, 0 for not yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentq import runs
from agentq.insight.reasons import Code
from agentq.limits import RunLimits
from agentq.messages import Message, Usage
from agentq.runs import Phase, Status


class Document(BaseModel):
    """What is given. New versions add fields; clients ignore those that they do not know."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Pause(Document):
    """That somebody paused something: why, who as far as they said, and when."""

    reason: str
    by: str
    at_ms: int


class Question(Document):
    """What a run waits for. `kind` is outcome, approval, input, child, limit, timer or signal.

    `until_ms` is when the waiting ends in any case, 0 for never. `answer_schema` is what an answer has to fit. `number`
    tells the questions of one call apart.
    """

    call_id: str
    tool: str
    text: str
    kind: str
    arguments: dict[str, Any]
    attempt: int
    run_id: str | None
    name: str
    number: int
    until_ms: int
    since_ms: int
    approvers: tuple[str, ...]
    answer_schema: dict[str, Any] | None

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        return {**asdict(given), "answer_schema": given.schema} if isinstance(given, runs.Question) else given


class Run(Document):
    """What is known of a run but its transcript. `prompt` is the beginning of the prompt."""

    run_id: str
    agent: str
    status: Status
    phase: Phase | None
    prompt: str
    questions: tuple[Question, ...]
    queue: str
    model: str | None
    session_id: str | None
    user_id: str | None
    metadata: dict[str, Any]
    iteration: int = Field(description="Turns that made progress.")
    turn: int = Field(description="Replies of the model, failed ones too.")
    errors: int = Field(description="Failures in a row.")
    recoveries: int = Field(description="Crashes since the last commit.")
    retries: int
    owner: str | None = Field(description="The worker that holds it.")
    lease_until_ms: int
    not_before_ms: int
    cancel_reason: str | None = Field(description="Not null once a cancel was asked for.")
    last_error: str | None
    usage: Usage
    seq: int = Field(description="The number of its last event: the cursor of whoever has seen all.")
    message_count: int
    waits_for_session: bool
    concurrency_key: str | None
    concurrency: int
    waits_for_place: bool
    tenant: str | None
    priority: Literal["high", "normal", "low"] | None
    waits_for_tenant: bool
    tools: tuple[str, ...] | None
    without: tuple[str, ...]
    limits: RunLimits | None
    pause: Pause | None
    parent_run_id: str | None
    depth: int
    forked_from: str | None
    created_ms: int
    started_ms: int
    updated_ms: int
    finished_ms: int


class Runs(Document):
    """A page of runs, newest first. `next_cursor` leads to the next page; null: there is none."""

    runs: tuple[Run, ...]
    next_cursor: str | None


class Started(Document):
    """A run that was made, or that the same idempotency key had made before: then `is_new` is false."""

    run_id: str
    agent: str
    is_new: bool


class RunStatus(Document):
    """What a run is now."""

    run_id: str
    status: Status


class Messages(Document):
    """A transcript as it stands."""

    messages: tuple[Message, ...]


class Result(Document):
    """How a run ended, or, with status 202, that it has not. `output` is there when it has completed."""

    run_id: str
    status: Status
    output: str | None
    error: str | None
    usage: Usage


class Reason(Document):
    """Why a run rests, in one sentence, with what to do about it (empty: nothing) and a code for programs."""

    run_id: str
    status: Status
    code: Code
    text: str
    fix: str
    notes: tuple[str, ...]
    details: dict[str, Any]
    needs_help: bool
    because: Reason | None


class Waiting(Document):
    """One thing that a run waits for a person to say."""

    run: Run
    question: Question


class Inbox(Document):
    """What runs wait for people to say."""

    waiting: tuple[Waiting, ...]


class Session(Document):
    """What is known of a session."""

    session_id: str
    user_id: str | None
    live_run_id: str | None = Field(description="The run that may go on now.")
    run_count: int
    open_runs: int
    message_count: int
    created_ms: int
    used_ms: int


class Sessions(Document):
    """A page of sessions, the one used last first."""

    sessions: tuple[Session, ...]
    next_cursor: str | None


class Schedule(Document):
    """A prompt at the times of a cron expression, and what has become of it. `next_ms` is null while it is paused."""

    name: str
    agent: str
    prompt: str
    cron: str
    timezone: str
    catch_up: str
    overlap: str
    options: dict[str, Any]
    next_ms: int | None
    last_ms: int | None
    last_run_id: str | None
    fired: int
    skipped: int


class Schedules(Document):
    """All schedules, the next to fire first."""

    schedules: tuple[Schedule, ...]


class Agents(Document):
    """The agents, by name: queue, model, limits and tools, as their workers have published them."""

    agents: dict[str, dict[str, Any]]


class Worker(Document):
    """A worker that is registered. Of a stock rq worker the last four are null."""

    name: str
    queues: tuple[str, ...]
    state: str
    host: str
    pid: int
    started_ms: int
    done: int
    failed: int
    is_silent: bool = Field(description="Its heartbeat is late.")
    in_flight: int | None
    concurrency: int | None
    agents: tuple[str, ...] | None
    version: str | None


class Workers(Document):
    """The workers, by name."""

    workers: tuple[Worker, ...]


class Queue(Document):
    """A queue. `oldest_ms` is when the wake-up at its head was made; `foreign` counts failed jobs that are not ours."""

    name: str
    waiting: int
    oldest_ms: int | None
    workers: tuple[str, ...]
    failed: int
    foreign: int
    pause: Pause | None


class Queues(Document):
    """The queues, by name."""

    queues: tuple[Queue, ...]


class Oldest(Document):
    """The queued run that was created first."""

    run_id: str
    created_ms: int


class Memory(Document):
    """The memory of Redis in bytes; `limit` is 0 for none."""

    used: int
    limit: int
    policy: str


class Stats(Document):
    """One page of figures."""

    now_ms: int
    runs: dict[str, int] = Field(description="By status.")
    sessions: int
    due: int
    oldest_queued: Oldest | None
    swept_ms: int | None
    workers: tuple[Worker, ...]
    queues: tuple[Queue, ...]
    memory: Memory | None
    pauses: dict[str, Pause]


class Spent(Document):
    """What runs have used together. `left_ms` is how long the window goes on, 0 where it is over or has no end."""

    tokens: int
    cost_nanousd: int
    iterations: int
    left_ms: int


class Pauses(Document):
    """What is paused as a whole, by scope: `all`, `agent:NAME`, `queue:NAME`."""

    pauses: Mapping[str, Pause]


class Health(Document):
    """That the process answers; of readiness, what it found."""

    status: str
    checks: dict[str, str] = {}


class Problem(Document):
    """What was refused, or went wrong (RFC 9457). `code` is for programs; `field` is what of the input is wrong."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
