"""Runs as data: status and its transition table, the state that the store holds, what a new run takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.limits import RunLimits

# Grows when stored data changes shape; a worker leaves runs of a newer schema to newer workers.
SCHEMA_VERSION = 1
# Lists show the beginning of a prompt; this many characters of it stand with the run's state.
PROMPT_EXCERPT = 200

# What a new run does where its session is busy: it waits in line, is refused, or stops the runs that are there; their
# messages are kept in the session, or not.
WhenBusy = Literal["queue", "reject", "interrupt", "replace"]
WHEN_BUSY: tuple[WhenBusy, ...] = get_args(WhenBusy)

# Which of a tenant's runs go first.
Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

# What of an agent a run can do without.
SWITCHES = ("memory", "retrieval")


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


class Phase(StrEnum):
    """What a running iteration is doing."""

    THINKING = "thinking"
    USING_TOOLS = "using_tools"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

# Agrees with agentq/_redis/lua/_status.lua; a test compares the two.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED}),
    Status.RUNNING: frozenset(
        {Status.QUEUED, Status.WAITING, Status.PAUSED, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    ),
    Status.WAITING: frozenset({Status.QUEUED, Status.PAUSED}),
    Status.PAUSED: frozenset({Status.QUEUED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.CANCELLED: frozenset({Status.QUEUED}),
}


# Kinds of questions.
CALL_OUTCOME = "outcome"
CHILD = "child"
LIMIT = "limit"
APPROVAL = "approval"
INPUT = "input"
TIMER = "timer"
SIGNAL = "signal"
# What people decide.
FOR_PEOPLE = (CALL_OUTCOME, APPROVAL, INPUT)


@dataclass(frozen=True, slots=True)
class Question:
    """What a run that is `waiting` waits for: a word of a person, or the end of another run.

    `kind` is "outcome": a call that must not be repeated had started when its worker died, and nobody knows what became
    of it; "approval": somebody has to allow the call, one of `approvers` if there are any, and where it is
    `destructive` it cannot be undone; "input": the tool asks `name`, and takes an answer that fits `schema`; "child":
    the call is the work of another run, `run_id`, which has not ended; "limit": the tool may not be called so often,
    or, where none is named, a limit of the run is reached; "timer"; or "signal": `name` has to come.
    `since_ms` is when it began to wait, `until_ms` when the waiting ends in any case, 0 for never. `number` tells the
    questions of one call apart. `attempt`, `arguments_hash` and `provider_call_id` are the call's, as its worker
    journaled them.
    """

    call_id: str
    tool: str
    text: str
    kind: str = CALL_OUTCOME
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    arguments_hash: str = ""
    provider_call_id: str | None = None
    run_id: str | None = None
    name: str = ""
    number: int = 0
    until_ms: int = 0
    approvers: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    since_ms: int = 0
    destructive: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """That somebody paused something: why, who as far as they said, and when, in milliseconds by the store's clock."""

    reason: str = ""
    by: str = ""
    at_ms: int = 0


# What can be paused as a whole: everything, the runs of an agent, the runs of a queue.
EVERYTHING = "all"


def agent_scope(agent: str) -> str:
    return f"agent:{agent}"


def queue_scope(queue: str) -> str:
    return f"queue:{queue}"


@dataclass(frozen=True, slots=True)
class RunState:
    """What is known of a run. Times are milliseconds since 1970 by the store's clock, 0 where not yet.

    `iteration` counts turns that made progress, `turn` every reply (failed ones too), `errors` consecutive failures,
    `recoveries` crashes since the last commit, `signals` what was sent into the run from outside. `prompt` is the
    beginning of the prompt. `waits_for_session`: it is in line behind another run of its session; `waits_for_place`:
    behind `concurrency` others with its `concurrency_key`; `waits_for_tenant`: behind others of its `tenant`, by
    `priority`, of which as many have a wake-up as may. `history_length` is how many messages of the session it sees
    before its own. `tools` names the tools and toolsets that it may use, where that is not all; `without` names what
    of its agent is switched off for it. `ttl_ms` holds its own times to live, by outcome.
    `questions` are what a waiting run waits for. `retries` counts how often it was opened again after its end, and
    `retried_at` is the `iteration` that it had then: its budgets count from there. `heard_at` is that at which it was
    sent a message: `max_iterations` counts from there, too. `lost_ms` is when somebody noticed
    that Redis has lost something of the run; `unsure` says that a call with an effect may be among it.
    `parent_run_id` is the run one of whose calls this run is, and `depth` how many runs there are above it.
    `forked_from` is the run whose first part this one began with. With a `pause` the run is `paused`, or will be where
    it would be queued again.
    `limits` are its own, before its agent's. `started_ms` is when it was first claimed, or again after a retry;
    `progressed_ms` when it last made progress, or went on after it had waited; `retried_usage` the usage at a retry.
    `counted` is the turn whose reply, which is still in the journal, is in `usage` already.
    """

    run_id: str
    agent: str
    status: Status
    prompt: str = ""
    questions: tuple[Question, ...] = ()
    retries: int = 0
    retried_at: int = 0
    heard_at: int = 0
    lost_ms: int = 0
    unsure: bool = False
    queue: str = "default"
    model: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    phase: Phase | None = None
    iteration: int = 0
    turn: int = 0
    errors: int = 0
    recoveries: int = 0
    signals: int = 0
    fence: int = 0
    committed: int = 0
    owner: str | None = None
    lease_until_ms: int = 0
    not_before_ms: int = 0
    cancel_reason: str | None = None
    last_error: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    wake: int = 0
    message_count: int = 0
    waits_for_session: bool = False
    concurrency_key: str | None = None
    concurrency: int = 0
    waits_for_place: bool = False
    tenant: str | None = None
    priority: Priority | None = None
    waits_for_tenant: bool = False
    history_length: int = 0
    ttl_ms: Mapping[str, int] = field(default_factory=dict)
    tools: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    idempotency_key: str | None = None
    created_ms: int = 0
    updated_ms: int = 0
    finished_ms: int = 0
    version: int = SCHEMA_VERSION
    parent_run_id: str | None = None
    depth: int = 0
    pause: Pause | None = None
    forked_from: str | None = None

    limits: RunLimits | None = None
    started_ms: int = 0
    progressed_ms: int = 0
    retried_usage: Mapping[str, Any] = field(default_factory=dict)
    counted: int = 0

    @property
    def question(self) -> Question | None:
        """The first of the questions."""
        return self.questions[0] if self.questions else None

    @property
    def is_cancel_requested(self) -> bool:
        return self.cancel_reason is not None


def pausing_scope(run: RunState, pauses: Mapping[str, Pause]) -> str | None:
    """The scope by which the run is kept from going on, if there is one."""
    return next(
        (scope for scope in (EVERYTHING, agent_scope(run.agent), queue_scope(run.queue)) if scope in pauses), None
    )


# So many recoveries without a commit in between make a run a suspect: it is worked on alone. Agrees with claim.lua.
SUSPECT_RECOVERIES = 2


def is_suspect(run: RunState) -> bool:
    """Whether the run may be what kills its workers."""
    return run.recoveries >= SUSPECT_RECOVERIES and not run.is_cancel_requested


@dataclass(frozen=True, slots=True)
class SessionState:
    """What is known of a session. Times as in `RunState`; `used_ms` is when a run of it last began to wait or ended.

    `live_run_id` is the run that may advance now; `open_runs` counts those that are not final, the live one among them.
    """

    session_id: str
    user_id: str | None = None
    live_run_id: str | None = None
    run_count: int = 0
    open_runs: int = 0
    message_count: int = 0
    created_ms: int = 0
    used_ms: int = 0
