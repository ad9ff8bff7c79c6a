"""The `Store` protocol. Its docstrings are the contract; `agentq.testing.StoreContract` checks a store against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agentq.messages import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.events.model import Event
    from agentq.messages import Message
    from agentq.runs import Question, RunState, SessionState, Status
    from agentq.stores.filters import RunFilter, SessionFilter
    from agentq.stores.values import Change, Scope

# People come back to a conversation after a holiday; what nobody came back to for a month is over.
SESSION_TTL_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class NewRun:
    """What `create` stores. `run_id` is made by the caller, so that a repeated call finds what the first one made.

    `request_hash` tells whether a repeated `idempotency_key` came with the same input. `ttl_ms` are times to live by
    outcome, where they are not the agent's. `tools` are the names of those that it may use, None for all. `without`
    names what of its agent is switched off for it. `files` are the contents of files that the messages refer to, by
    digest. `parent_run_id` is the run one of whose calls this one is, `depth` how many runs are above it.
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

    @property
    def prompt(self) -> str:
        """What the run was asked: the text of the last message of the user."""
        return next((message.text for message in reversed(self.messages) if message.role is Role.USER), "")


@dataclass(frozen=True, slots=True)
class Created:
    """`run_id` is the earlier run's where the idempotency key was known; `woken`: it was woken."""

    run_id: str
    existed: bool
    woken: bool


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
    kept with those that came with the run.
    """

    name: str
    value: bytes
    starts_effect: bool = False
    changes: tuple[Change, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


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
    store may take it from there. `changes` are made to values.
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
    """Why a run is handed back without going on: it waits for what `question` says.

    `closing` are the events that say so. When signals have moved past `signals_seen`, they are left out and the run is
    queued instead, to see them. After `within_ms`, if it is not 0, the run can be claimed again whatever has happened.
    """

    question: Question
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


class Wakeup(Protocol):
    """How an executor wakes a run, in a form that a store which shares its Redis can write within its own scripts.

    `template` is opaque to the loop: JSON that the scripts fill in.
    """

    @property
    def template(self) -> bytes: ...


class Store(Protocol):
    """Where runs live.

    Every mutating call is idempotent: the same call again, after a lost reply, changes nothing and answers as before.
    Every write by a lease is fenced: it raises `LeaseLost` when the run was claimed by another since. The store's own
    clock decides about leases. Nothing is half-written: a refused call has changed nothing.
    Calls raise `StoreUnavailable` when the backend is away, `RunNotFound` where there is no such run.
    """

    async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
        """Store a queued run and its first event. Again with the same `run_id`: answers `existed`.

        A run of a session waits while an earlier one of it is not final: the runs of a session go on one after the
        other, in the order in which they were stored. One that is delayed takes its place when its time has come.
        A session whose user is known raises `SessionConflict` for another one, and is the user of runs that name none.
        With an `idempotency_key` that is known, answers with the earlier run when `request_hash` agrees, else raises
        `IdempotencyConflict`. The key lives as long as its run. Raises `CancelRequested` for a run whose parent was
        cancelled or has ended, and `RunNotFound` for one that its parent had before, and whose time has passed.
        """
        ...

    async def claim(
        self, run_ids: Sequence[str], *, owner: str, claim_id: str, lease_ms: int, agents: Sequence[str] | None = None
    ) -> tuple[Claim, ...]:
        """Take the leases of those `run_ids` that can be advanced now; the others are left out without a word.

        The first claim of a run writes `run.started`. A run can be taken when it is queued and due (or cancelled), or
        running with an expired lease: then `recoveries` grows, the abandoned deltas are dropped and `attempt.reset` is
        written. The fence grows with each claim. Runs of agents that are not in `agents` (None: all) are left for
        other workers. The same `claim_id` of the same owner answers with the same leases.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> tuple[Renewal, ...]:
        """Extend leases, in order. An expired lease that nobody took is extended too."""
        ...

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Appended:
        """Write steps and events in one go; either may be empty. `using_tools` moves the phase on.

        Raises `CancelRequested` when a record starts an effect and the run was cancelled; a record that already
        stands exactly so is accepted. Files of records are kept, each digest once, as long as those of `NewRun` are:
        with the run, or with its session.
        """
        ...

    async def commit(self, lease: Lease, commit: Commit, *, wake: Wakeup | None = None) -> Committed:
        """End the iteration: append messages and events, empty the journal, set the status, release the lease.

        A commit without messages leaves the journal as it is, so that a retry of the run goes on from it.
        A run that goes on is queued and, if `wake` is given and can be written here, woken. A final run gets
        `ttl_ms`; its session gets the run's messages, unless the run never was the live one, and its next run is queued
        and woken, and so is a parent that waits for it. Runs that it started and that go on are cancelled. A commit
        whose messages would leave a call without a result raises `InvalidInput` (promise P5).
        Again with the same fence: the first outcome.
        """
        ...

    async def release(
        self, lease: Lease, batch: EventBatch, *, wake: Wakeup | None = None, rest: Rest | None = None
    ) -> Released:
        """Hand the run back with its journal and drop its open deltas: queued, and next in line; or waiting, to `rest`.

        Uses neither an iteration nor a recovery. Again with the same fence: the first outcome.
        """
        ...

    async def answer(self, run_id: str, answer: Answer, *, wake: Wakeup | None = None) -> Released:
        """Journal what a waiting run waited for, and queue it. Again with the same answer: the first outcome.

        Raises `NotWaiting` when the run does not wait, or not for this any more.
        """
        ...

    async def retry(self, run_id: str, retry: Retry, *, wake: Wakeup | None = None) -> Released:
        """Queue a failed or cancelled run again, from its last commit and with its journal; its budgets start anew.

        In a session it is the live run again, and the session's transcript is as it was before the run had ended.
        Again with the same fence: the first outcome. Raises `NotFinished` for a run that has not ended (or whose fence
        has moved on), `IllegalTransition` for one that has completed, and `SessionMovedOn` when a later run of its
        session has started.
        """
        ...

    async def cancel(self, run_id: str, *, reason: str = "") -> Signalled:
        """Ask to cancel, the run and those that it started. Again: no effect.

        Raises `RunAlreadyFinished` when the run has completed or failed.
        """
        ...

    async def sweep(
        self, *, lease_ms: int, wake: Wakeup | None = None, limit: int = 100, agents: Sequence[str] = ()
    ) -> Sweep:
        """Find expired leases, due timers and lost wake-ups, wake those runs, and prune listings.

        Runs that others had to leave because they lack the agent are woken when it is one of `agents`. A pass that
        wakes `limit` runs has left some: sweep again.
        """
        ...

    async def read(self, run_id: str) -> RunState:
        """The state of a run."""
        ...

    async def messages(self, run_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """The transcript from index `start` on."""
        ...

    async def list(self, which: RunFilter) -> tuple[RunState, ...]:
        """Runs, newest first."""
        ...

    async def session(self, session_id: str) -> SessionState:
        """The state of a session. Raises `SessionNotFound`."""
        ...

    async def session_messages(self, session_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """The transcript that the ended runs of a session left, from index `start` on. Raises `SessionNotFound`."""
        ...

    async def list_sessions(self, which: SessionFilter) -> tuple[SessionState, ...]:
        """Sessions, the one used last first."""
        ...

    async def values(self, scope: Scope, of: str) -> Mapping[str, bytes]:
        """The values that tools and hooks keep for a run, a session or a user, by name; none where there is no such.

        They change with steps of the journal and with commits alone, so never by a stale lease, nor twice. A change of
        a scope that the run does not have is left out.
        """
        ...

    async def file(self, run_id: str, digest: str) -> bytes:
        """The content of a file that the run's messages, or earlier ones of its session, refer to.

        Raises `FileNotStored`.
        """
        ...
