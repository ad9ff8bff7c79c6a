"""The `Store` protocol. Its docstrings are the contract; `agentq.testing.StoreContract` checks a store against it.

The data that it takes and gives are defined in data.py, and are part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agentq.stores.data import (
    SESSION_TTL_MS,
    Answer,
    Appended,
    Claim,
    Commit,
    Committed,
    Created,
    Decision,
    EventBatch,
    Firing,
    Lease,
    NewRun,
    Released,
    Renewal,
    Rest,
    Retry,
    Signal,
    Signalled,
    Steer,
    StepRecord,
    Sweep,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.events.model import Event
    from agentq.limits import Meter, RunLimits, Spent
    from agentq.messages import Message
    from agentq.runs import Pause, RunState, SessionState, Status
    from agentq.stores.filters import RunFilter, SessionFilter
    from agentq.stores.values import Scope

__all__ = [
    "SESSION_TTL_MS",
    "Answer",
    "Appended",
    "Claim",
    "Commit",
    "Committed",
    "Created",
    "Decision",
    "EventBatch",
    "Firing",
    "Lease",
    "NewRun",
    "Released",
    "Renewal",
    "Rest",
    "Retry",
    "Signal",
    "Signalled",
    "Steer",
    "StepRecord",
    "Store",
    "Sweep",
    "Wakeup",
]


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
        Where a run of its session is under way or in line, `when_busy` decides: `queue` waits; `reject` raises
        `SessionBusy`; `interrupt` and `replace` cancel that one and those in line, which leave it, and wait for the
        end of that one; with `replace`, the session keeps nothing of what it said.
        With an `idempotency_key` that is known, answers with the earlier run when `request_hash` agrees, else raises
        `IdempotencyConflict`. The key lives as long as its run. Raises `CancelRequested` for a run whose parent was
        cancelled or has ended, and `RunNotFound` for one that its parent had before, and whose time has passed.
        A run with a `firing` is stored where its schedule fires so next, and moves it on; else it answers `existed`.
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

    async def decide(self, run_id: str, decision: Decision, *, wake: Wakeup | None = None) -> Released:
        """Journal what a person decided on a call, and queue the run if it waits. Again: the first outcome.

        Raises `NotWaiting` when the journal has another line for the call, or none, or the run has ended or was
        cancelled; and `AlreadyDecided` when another decision came first.
        """
        ...

    async def signal(self, run_id: str, signal: Signal, *, wake: Wakeup | None = None) -> Released:
        """Keep a signal for the run, and queue the run if it waits. Again, by its id: no effect.

        Raises `RunAlreadyFinished`, and `InboxFull` when a thousand wait that no step has taken.
        """
        ...

    async def signals(self, run_id: str) -> Mapping[str, Signal]:
        """The signals of a run that no step has taken, by id, first come first."""
        ...

    async def journaled(self, run_id: str) -> Mapping[str, bytes]:
        """The journal of a run: see `Claim.journal`."""
        ...

    async def retry(self, run_id: str, retry: Retry, *, wake: Wakeup | None = None) -> Released:
        """Queue a failed or cancelled run again, from its last commit and with its journal; its budgets start anew.

        In a session it is the live run again, and the session's transcript is as it was before the run had ended.
        Again with the same fence: the first outcome. Raises `NotFinished` for a run that has not ended (or whose fence
        has moved on), `IllegalTransition` for one that has completed, and `SessionMovedOn` when a later run of its
        session has started.
        """
        ...

    async def set_limits(
        self, run_id: str, limits: RunLimits, events: Sequence[Event] = (), *, wake: Wakeup | None = None
    ) -> Released:
        """Give the run these limits of its own; one that waits because it had reached a limit is queued.

        A worker that holds it goes on with the former ones until its iteration ends. A run that has ended has them when
        it is retried. The same limits again, where nothing waits for them: no effect.
        """
        ...

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        """Ask to cancel, the run and those that it started. Again: no effect. `by` is who, for the run's events.

        Raises `RunAlreadyFinished` when the run has completed or failed.
        """
        ...

    async def steer(self, run_id: str, steer: Steer) -> Status:
        """Put a message of the user into a run that goes on: the next claim appends it to the transcript.

        While a reply waits for results it waits, too; a run that has not seen it does not complete. In order; again, by
        its token: no effect. Its iterations count anew then. Raises `RunAlreadyFinished`, `CancelRequested` where a
        cancel came first, and `InboxFull` when a hundred wait.
        """
        ...

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        """Pause a run: nobody claims it until it is resumed. Again: no effect.

        A queued run is paused at once; one that is held when its iteration has ended; one that waits when it would go
        on. A cancel takes the pause away. Raises `RunAlreadyFinished`, and `CancelRequested` where a cancel came first.
        """
        ...

    async def resume(self, run_id: str, *, by: str = "", wake: Wakeup | None = None) -> Released:
        """Let a run go on that was paused, next in line. One that is not paused stays as it is."""
        ...

    async def pause_all(self, scope: str, *, reason: str = "", by: str = "") -> Pause:
        """Pause everything (`all`), an agent (`agent:NAME`) or a queue (`queue:NAME`); returns the pause that stands.

        Iterations that are under way go on; nobody claims more, unless it was cancelled. Again: the first pause stands.
        """
        ...

    async def resume_all(self, scope: str) -> None:
        """Let what was paused as a whole go on; sweeps wake it. Again: no effect."""
        ...

    async def pauses(self) -> Mapping[str, Pause]:
        """What is paused as a whole, by scope."""
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

    async def delete_session(self, session_id: str) -> None:
        """Delete a session, its messages, files and values, and its runs. Again, or where there is none: no effect.

        Raises `SessionBusy` while a run of it has not ended.
        """
        ...

    async def values(self, scope: Scope, of: str) -> Mapping[str, bytes]:
        """The values that tools and hooks keep for a run, a session or a user, by name; none where there is no such.

        They change with steps of the journal and with commits alone, so never by a stale lease, nor twice. A change of
        a scope that the run does not have is left out.
        """
        ...

    async def spent(self, meters: Sequence[Meter]) -> tuple[Spent, ...]:
        """What commits have added to each of these, in order; nothing where none has, or where it is forgotten."""
        ...

    async def file(self, run_id: str, digest: str) -> bytes:
        """The content of a file that the run's messages, or earlier ones of its session, refer to.

        Raises `FileNotStored`.
        """
        ...
