"""What goes into a store and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.limits import Spent
from agentq.messages import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.events.model import Event
    from agentq.limits import Meter, RunLimits
    from agentq.messages import Message
    from agentq.runs import Priority, Question, RunState, Status, WhenBusy
    from agentq.stores.values import Change

# People come back to a conversation after a holiday; what nobody came back to for a month is over.
NOTHING_SPENT = Spent()
SESSION_TTL_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Firing:
    """The firing of a schedule: for `slot_ms`, after which `next_ms` comes.

    `seen_ms` is where the schedule stands, an earlier firing where some were missed; if it has moved on, there is
    none. With `skips_open` it is left out, and counted, where the schedule's last run has not ended.
    """

    schedule: str
    seen_ms: int
    slot_ms: int
    next_ms: int
    skips_open: bool = False


@dataclass(frozen=True, slots=True)
class NewRun:
    """What `create` stores. `run_id` is made by the caller, so that a repeated call finds what the first one made.

    `request_hash` tells whether a repeated `idempotency_key` came with the same input. `ttl_ms` are times to live by
    outcome, where they are not the agent's. `tools` are the names of those that it may use, None for all. `without`
    names what of its agent is switched off for it. `files` are the contents of files that the messages refer to, by
    digest. `parent_run_id` is the run one of whose calls this one is, `depth` how many runs are above it. `limits` are
    its own, before its agent's. `when_busy` says what it does where its session is busy. `forked_from` is the run whose
    first part it begins with. `at_ms` is when it may start, by the store's clock; `firing` is that of the
    schedule which makes it. At most `concurrency` runs with its `concurrency_key` go on at the same time.
    Only so many of its `tenant` have a wake-up at the same time, the others wait in line, by `priority`.
    """

    run_id: str
    agent: str
    messages: tuple[Message, ...]
    queue: str = "default"
    model: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_hash: str = ""
    delay_ms: int = 0
    ttl_ms: Mapping[str, int] = field(default_factory=dict)
    tools: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    parent_run_id: str | None = None
    depth: int = 0
    when_busy: WhenBusy = "queue"
    forked_from: str | None = None
    limits: RunLimits | None = None
    at_ms: int = 0
    firing: Firing | None = None
    concurrency_key: str | None = None
    concurrency: int = 0
    tenant: str | None = None
    priority: Priority | None = None

    @property
    def prompt(self) -> str:
        """What the run was asked: the text of the last message of the user."""
        return next((message.text for message in reversed(self.messages) if message.role is Role.USER), "")


@dataclass(frozen=True, slots=True)
class Created:
    """`run_id` is the earlier run's where the idempotency key was known; `woken`: it was woken.

    `stopped` are runs of its session that were asked to stop and that nobody holds, so that nobody ends them at once.
    """

    run_id: str
    existed: bool
    woken: bool
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """The timed right to advance a run. Every write names it; a write with an older fence is refused."""

    run_id: str
    fence: int
    owner: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of the journal. `name` is `reply` or the call id; `value` is JSON.

    `starts_effect` marks the line that announces a call with an effect: it is refused after a cancel. `changes` to
    values are made in the same go. `files` are the contents of files that the value refers to, by digest: they are
    kept with those that came with the run. `takes` are ids of signals that are no more to be had.
    """

    name: str
    value: bytes
    starts_effect: bool = False
    changes: tuple[Change, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    takes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed run: its lease, its state after the claim, its transcript, the journal of the iteration in flight.

    `history` are the messages that its session had when it went live.
    """

    lease: Lease
    run: RunState
    messages: tuple[Message, ...]
    journal: Mapping[str, bytes]
    history: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch of events went: the number of its last event and the store's time, in milliseconds."""

    last_seq: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of one fenced write. `number` counts 1, 2, 3, … within a claim, one in flight: a number that is already
    stored answers with what it got then. `fold` are the numbers of deltas that an event of this batch replaces,
    as inclusive ranges. Deltas in a batch that holds `reply.completed` are folded from the start: they are numbered
    and published, but never stored.
    """

    number: int
    events: tuple[Event, ...] = ()
    fold: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """What an iteration leaves behind.

    `closing` are the events that are true only if the run gets `status` (its final event); when signals have moved
    past `signals_seen`, they are left out and the run stays queued. `delay_ms` puts the next iteration off. A run that
    ends gives its messages to its session, unless `remembers` is false; the session lives for `session_ttl_ms` after
    its last run. `reply_in_journal` is the one of the messages that the journal holds as `reply`, word for word: a
    store may take it from there. `changes` are made to values. `counted`: see `RunState`.
    `spent` is added to the `meters`.
    """

    status: Status
    messages: tuple[Message, ...]
    batch: EventBatch
    iteration: int
    turn: int
    errors: int
    usage: Mapping[str, Any]
    signals_seen: int
    closing: tuple[Event, ...] = ()
    last_error: str | None = None
    delay_ms: int = 0
    ttl_ms: int = 0
    session_ttl_ms: int = SESSION_TTL_MS
    remembers: bool = True
    reply_in_journal: Message | None = None
    changes: tuple[Change, ...] = ()
    takes: tuple[str, ...] = ()
    counted: int = 0
    meters: tuple[Meter, ...] = ()
    spent: Spent = NOTHING_SPENT


@dataclass(frozen=True, slots=True)
class Committed:
    """`status` is what the run has now: `queued` in place of the status asked for when a signal came in between.

    `next_run_id` is the run to advance next: this one, or when it has ended the next one of its session, or None.
    `woken`: that run was woken. `parent_run_id` is a run that waited for this one and has to be woken by the caller.
    """

    status: Status
    last_seq: int
    woken: bool
    next_run_id: str | None = None
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a run is handed back without going on: it waits for what `questions` say.

    `closing` are the events that say so. When signals have moved past `signals_seen`, they are left out and the run is
    queued instead, to see them. After `within_ms`, if it is not 0, the run can be claimed again whatever has happened.
    """

    questions: tuple[Question, ...]
    signals_seen: int
    closing: tuple[Event, ...] = ()
    within_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """`status` is what the run has now: `queued`, or `waiting` where it rests. `woken`: it was woken."""

    status: Status
    woken: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's word on what a waiting run asked: the step to journal in place of the one that stands.

    `fence` is the run's when it was asked, so that nobody answers a question that they have not seen.
    """

    fence: int
    record: StepRecord
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on a call of a run: `record` is journaled, unless another one stands under its name.

    `seen` is the line that the journal has for the call, as whoever decides saw it. `events` tell of it.
    """

    call_id: str
    seen: bytes
    record: StepRecord
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that happened outside: `name`, and `data` as JSON. `signal_id` makes a repeated one known."""

    signal_id: str
    name: str
    data: bytes
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Steer:
    """A message of the user for a run that goes on. `token` makes a repeated one known; `files` as in `NewRun`."""

    token: str
    message: Message
    events: tuple[Event, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """Opens a run again that has failed or was cancelled. `fence` is the run's as the caller saw it.

    `messages` are appended to its transcript.
    """

    fence: int
    messages: tuple[Message, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to one renewal: whether the lease is still held, and how many signals the run has seen."""

    run_id: str
    held: bool
    signals: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Signalled:
    """`held` says that a live lease exists, so the worker that holds it will act."""

    status: Status
    held: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found: runs whose wake-up it wrote, and runs that the caller has to wake (by `wake_runs`)."""

    woken: tuple[str, ...] = ()
    to_wake: tuple[str, ...] = ()
    pruned: int = 0
