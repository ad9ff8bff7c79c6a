"""The in-memory store: says in Python what the Redis scripts do. For one process and one event loop; nothing lasts.

No method awaits between its first check and its last write, so each call is as atomic as a script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentq._clock import Clock, SystemClock
from agentq.errors import CancelRequested, IdempotencyConflict, RunAlreadyFinished, SessionBusy
from agentq.events.memory import LoggedRun, MemoryEventStream
from agentq.messages import encode_message
from agentq.runs import Pause, Phase, Status, WhenBusy, pausing_scope
from agentq.stores._checks import check_answered, check_commit
from agentq.stores._memory_cancels import Cancels
from agentq.stores._memory_expiry import Expiring
from agentq.stores._memory_moves import (
    abandon,
    add_child,
    change_values,
    check_retry,
    go_on,
    release,
    reopen,
    take,
    tell_of_end,
)
from agentq.stores._memory_places import Places
from agentq.stores._memory_run import (
    GRACE_MS,
    MemoryRun,
    check_lease,
    check_transition,
    error_after,
    has_waited,
    is_claimable,
    is_current,
    new_memory_run,
)
from agentq.stores._memory_schedules import MemorySchedules
from agentq.stores._memory_sessions import MemorySession, MemorySessions
from agentq.stores._memory_signals import MemorySignals
from agentq.stores._memory_webhooks import MemoryWebhooks
from agentq.stores.base import (
    SESSION_TTL_MS,
    Appended,
    Claim,
    Commit,
    Committed,
    Created,
    EventBatch,
    Lease,
    NewRun,
    Released,
    Renewal,
    Rest,
    Retry,
    Signalled,
    StepRecord,
    Sweep,
    Wakeup,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass(frozen=True, slots=True)
class _ClaimBatch:
    leases: tuple[Lease, ...]
    until_ms: int


class MemoryStore(MemorySignals):
    """The reference `Store`. It wakes nobody: `wake` is ignored and `woken` is always False.

    `stream` is its `EventStream`. Stores that share `sessions` see the same conversations, and no runs of each other.
    """

    def __init__(self, clock: Clock | None = None, *, sessions: MemorySessions | None = None) -> None:
        self._clock = clock or SystemClock()
        self._runs: dict[str, MemoryRun] = {}
        self._sessions = sessions or MemorySessions(self._clock.now_ms)
        self.schedules = MemorySchedules(self._clock.now_ms, self._known)
        self.webhooks = MemoryWebhooks(self._clock.now_ms, self._known)
        self.shared = self._sessions.shared
        self._expiring = Expiring(lambda run_id: run.expires_ms if (run := self._runs.get(run_id)) else None)
        self._keys: dict[str, str] = {}
        self._claims: dict[tuple[str, str], _ClaimBatch] = {}
        self._pauses: dict[str, Pause] = {}
        self._cancels = Cancels(self._known)
        self._places = Places(self._known)
        self.stream = MemoryEventStream(self._logged)

    async def create(self, new: NewRun, *, wake: Wakeup | None = None) -> Created:
        """Store a queued run; see `Store.create`."""
        check_answered(new.messages)
        # Where no worker sweeps, nobody else does.
        self._prune(self._clock.now_ms())
        key = new.idempotency_key
        if earlier := (None if key is None else self._known(self._keys.get(key, ""))) or self._known(new.run_id):
            if earlier.request_hash != new.request_hash:
                raise IdempotencyConflict(f"run {earlier.state.run_id} has idempotency key {key!r} and other input")
            return Created(earlier.state.run_id, existed=True, woken=False)

        user_id = new.user_id if new.session_id is None else self._sessions.user_of(new.session_id, new.user_id)
        if new.when_busy == "reject" and new.session_id is not None:
            self._check_free(new.session_id)
        if new.parent_run_id is not None:
            add_child(self._known(new.parent_run_id), new.run_id)
        if new.firing is not None and not self.schedules.fires(new.firing, new.run_id):
            return Created(new.run_id, existed=True, woken=True)
        now = self._clock.now_ms()
        new = replace(new, delay_ms=max(new.delay_ms, new.at_ms - now))
        stopped: tuple[str, ...] = ()
        run = self._runs[new.run_id] = new_memory_run(new, user_id, now)
        if new.session_id is not None:
            run.session = self._sessions.join(new.session_id, user_id)
            stopped = self._make_way(run.session, new.when_busy, now)
            if not new.delay_ms:
                self._enter(run, run.session)
        (run.session or run).files.update(new.files)
        if key is not None:
            self._keys[key] = new.run_id
        return Created(new.run_id, existed=False, woken=False, stopped=stopped)

    async def claim(
        self, run_ids: Sequence[str], *, owner: str, claim_id: str, lease_ms: int, agents: Sequence[str] | None = None
    ) -> tuple[Claim, ...]:
        """Take leases; see `Store.claim`."""
        now = self._clock.now_ms()
        while self._claims and (oldest := next(iter(self._claims.items())))[1].until_ms <= now:
            del self._claims[oldest[0]]
        self._places.settle(now)
        batch = self._claims.get((owner, claim_id))
        if batch is None:
            leases = tuple(
                take(run, owner, now, lease_ms)
                for run in map(self._known, run_ids)
                if run
                and self._is_due(run, now)
                and (agents is None or run.state.agent in agents)
                and not self._is_paused(run)
                and self._may_start(run)
            )
            if not leases:
                return ()
            batch = self._claims[owner, claim_id] = _ClaimBatch(leases, now + lease_ms)
        return tuple(
            Claim(lease, run.snapshot(), run.transcript(), dict(run.journal), run.history())
            for lease in batch.leases
            if (run := self._known(lease.run_id)) and is_current(run, lease)
        )

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> tuple[Renewal, ...]:
        """Extend leases; see `Store.renew`. That of a run that is gone is not held."""
        return tuple(self._renew(lease, self._clock.now_ms() + lease_ms) for lease in leases)

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Appended:
        """Write steps and events; see `Store.journal`."""
        run = self._held(lease)
        for record in records:
            stands = run.journal.get(record.name) == record.value
            if record.starts_effect and run.state.is_cancel_requested and not stands:
                raise CancelRequested(f"run {lease.run_id} was cancelled; {record.name} must not start")
        if run.batch and batch.number <= run.batch[0]:
            return run.batch[1]

        now = self._clock.now_ms()
        run.log.write(batch.events, at_ms=now, fold=batch.fold)
        for record in records:
            (run.session or run).files.update(record.files)
        run.journal.update((record.name, record.value) for record in records)
        run.signals.update(dict.fromkeys(signal_id for record in records for signal_id in record.takes))
        changes = [change for record in records for change in record.changes]
        change_values(run, changes, self._sessions, SESSION_TTL_MS)
        run.set(now, phase=Phase.USING_TOOLS if using_tools else run.state.phase)
        appended = Appended(run.log.seq, now)
        run.batch = (batch.number, appended)
        return appended

    async def commit(self, lease: Lease, commit: Commit, *, wake: Wakeup | None = None) -> Committed:
        """End the iteration; see `Store.commit`."""
        run = self._find(lease.run_id)
        if run.committed and run.state.committed == lease.fence:
            return run.committed
        check_lease(run, lease)
        check_transition(run.state, commit)
        check_commit(commit)

        now = self._clock.now_ms()
        messages = [encode_message(message) for message in commit.messages]
        is_unheard = commit.status is Status.COMPLETED and bool(run.inbox)
        is_signalled = run.state.signals > commit.signals_seen or is_unheard
        status = Status.QUEUED if is_signalled else commit.status
        events = commit.batch.events if is_signalled else (*commit.batch.events, *commit.closing)
        run.log.write(events, at_ms=now, fold=commit.batch.fold, settle=True)
        run.messages += messages
        change_values(run, commit.changes, self._sessions, commit.session_ttl_ms)
        self._sessions.spending.add(commit.meters, commit.spent)
        if messages:
            run.journal.clear()
        # A signal wants to be seen at once, whatever the iteration wanted to wait for.
        not_before = now + commit.delay_ms if status is Status.QUEUED and commit.delay_ms and not is_signalled else 0
        run.due_ms = (not_before or now + GRACE_MS) if status is Status.QUEUED else None
        if status.is_final:
            run.expires_ms = now + commit.ttl_ms
            self._expiring.note(lease.run_id)
        run.set(
            now,
            status=status,
            phase=None,
            iteration=commit.iteration,
            progressed_ms=now if commit.iteration > run.state.iteration else run.state.progressed_ms,
            turn=commit.turn,
            errors=commit.errors,
            usage=dict(commit.usage),
            counted=commit.counted or run.state.counted,
            last_error=error_after(run.state, commit, status),
            # A run that was to be set aside, and was signalled, has not shown that it lets its worker live.
            recoveries=run.state.recoveries if is_signalled and commit.status.is_final and not messages else 0,
            committed=lease.fence,
            owner=None,
            lease_until_ms=0,
            not_before_ms=not_before,
            message_count=len(run.messages),
            finished_ms=now if status.is_final else 0,
        )
        status = run.state.status
        next_run_id = lease.run_id if status is Status.QUEUED else None
        if status.is_final:
            next_run_id = self._leave(run, commit)
        parent_run_id = None
        if status.is_final:
            self._cancels.ask_below(run, "its parent has ended", now)
            parent_run_id = tell_of_end(self._known(run.state.parent_run_id or ""), now)
            self.webhooks.tell_of_end(run)
        run.committed = Committed(
            status, run.log.seq, woken=False, next_run_id=next_run_id, parent_run_id=parent_run_id
        )
        return run.committed

    async def release(
        self, lease: Lease, batch: EventBatch, *, wake: Wakeup | None = None, rest: Rest | None = None
    ) -> Released:
        """Hand the run back; see `Store.release`."""
        return release(
            self._find(lease.run_id), lease, batch, rest, self._clock.now_ms(), tell=self.webhooks.tell_of_rest
        )

    async def retry(self, run_id: str, retry: Retry, *, wake: Wakeup | None = None) -> Released:
        """Queue an ended run again; see `Store.retry`."""
        run = self._find(run_id)
        if run.retried is not None and run.retried[0] == retry.fence:
            return run.retried[1]
        check_retry(run.state, retry)
        if run.session is not None:
            history = run.state.history_length if run.was_live else None
            run.session = self._sessions.rejoin(run.session, run_id, history, len(run.messages), self._is_open)
        released = reopen(run, retry, self._clock.now_ms())
        if run.session is not None and not run.was_live:
            self._enter(run, run.session)
        return released

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        """Ask to cancel; see `Store.cancel`."""
        run = self._find(run_id)
        if run.state.status in (Status.COMPLETED, Status.FAILED):
            raise RunAlreadyFinished(f"run {run_id} has already {run.state.status}")
        now = self._clock.now_ms()
        self._cancels.ask(run, reason, now, by=by)
        self._cancels.ask_below(run, "its parent was cancelled", now)
        return Signalled(run.state.status, held=run.is_held(now))

    def watch_cancels(self, owner: str) -> AsyncIterator[str]:
        """Yield the ids of runs that are cancelled while `owner` holds them, from the first `anext` on, without end."""
        return self._cancels.watch(owner)

    async def wait_for_turn(self, run_id: str) -> None:
        """Return when no other run of its session is in the way of the run any more, or it was cancelled."""
        await self._find(run_id).turn.wait()

    async def sweep(
        self, *, lease_ms: int, wake: Wakeup | None = None, limit: int = 100, agents: Sequence[str] = ()
    ) -> Sweep:
        """Find what has to be woken, and forget runs whose time to live has passed; see `Store.sweep`."""
        now = self._clock.now_ms()
        pruned = self._prune(now)
        self._places.settle(now)
        overdue = [(run.due_ms, run) for run in self._runs.values() if run.due_ms is not None and run.due_ms <= now]
        overdue.sort(key=lambda pair: pair[0])
        to_wake = []
        for _, run in overdue[:limit]:
            if has_waited(run.state, now):
                go_on(run, now)
            elif run.is_running and run.state.pause is not None:
                abandon(run, now)
            is_kept = self._is_paused(run)
            if run.state.status is not Status.PAUSED:
                run.due_ms = now + GRACE_MS
            if run.state.status is not Status.PAUSED and not is_kept:
                to_wake.append(run.state.run_id)
        return Sweep(to_wake=tuple(to_wake), pruned=pruned)

    def _is_due(self, run: MemoryRun, now: int) -> bool:
        """Whether a claim may take the run now; one whose time has come is queued again by that, or paused."""
        if has_waited(run.state, now):
            go_on(run, now)
        return is_claimable(run.state, now)

    def _is_paused(self, run: MemoryRun) -> bool:
        return not run.state.is_cancel_requested and pausing_scope(run.state, self._pauses) is not None

    def _check_free(self, session_id: str) -> None:
        session = self._sessions.known(session_id)
        if session is not None and (session.line or (session.live is not None and self._is_open(session.live))):
            raise SessionBusy(f"session {session_id!r}: {SessionBusy().args[0]}")

    def _make_way(self, session: MemorySession, when_busy: WhenBusy, now: int) -> tuple[str, ...]:
        """Ask the runs of a session to stop, if the new one says so; those that nobody holds."""
        if when_busy not in ("interrupt", "replace"):
            return ()
        stopped = []
        for run_id in (*filter(None, (session.live,)), *session.line):
            if (run := self._known(run_id)) and not run.state.status.is_final:
                run.forgets = run.forgets or (when_busy == "replace" and run_id == session.live)
                run.state = replace(run.state, waits_for_session=False)
                self._cancels.ask(run, "a newer message took its place", now)
                self._cancels.ask_below(run, "its parent was cancelled", now)
                stopped += [] if run.is_held(now) else [run_id]
        session.line.clear()
        return tuple(stopped)

    def _enter(self, run: MemoryRun, session: MemorySession) -> None:
        """Have the run take its place in its session."""
        run.line_up()
        self._go_live(session, session.enter(run.state.run_id, self._is_open))

    def _leave(self, run: MemoryRun, commit: Commit) -> str | None:
        """Take the run out of its session; the run that comes next there."""
        if run.session is None:
            return None
        messages = run.messages if commit.remembers and not run.forgets else []
        run.state = replace(run.state, waits_for_session=False)
        promoted = self._sessions.leave(run.session, run.state.run_id, messages, commit.session_ttl_ms)
        self._go_live(run.session, promoted)
        return promoted

    def _go_live(self, session: MemorySession, run_id: str | None) -> None:
        if run_id is not None:
            self._runs[run_id].go_live(len(session.messages), self._clock.now_ms())

    def _may_start(self, run: MemoryRun) -> bool:
        """Whether no other run of the session is in the way; one that was delayed takes its place now.

        One that was paused while somebody held it who is lost now rests.
        """
        if run.is_running and run.state.pause is not None:
            abandon(run, self._clock.now_ms())
            return False
        if run.session is not None and not run.has_entered and not run.state.is_cancel_requested:
            self._enter(run, run.session)
        may_start = run.state.is_cancel_requested or not run.state.waits_for_session
        return may_start and self._places.admits(run, self._clock.now_ms())

    def _is_open(self, run_id: str) -> bool:
        run = self._known(run_id)
        return run is not None and not run.state.status.is_final

    def _held(self, lease: Lease) -> MemoryRun:
        run = self._find(lease.run_id)
        check_lease(run, lease)
        return run

    def _logged(self, run_id: str) -> LoggedRun:
        run = self._find(run_id)
        return LoggedRun(run.log, run.state.status, run.transcript)

    def _prune(self, now: int) -> int:
        """Forget the runs and sessions whose time has passed; how many those were."""
        gone = self._expiring.pop(now)
        for run_id in gone:
            state = self._runs.pop(run_id).state
            if state.idempotency_key is not None and self._keys.get(state.idempotency_key) == run_id:
                del self._keys[state.idempotency_key]
        return len(gone) + self._sessions.prune()

    def _renew(self, lease: Lease, until_ms: int) -> Renewal:
        run = self._known(lease.run_id)
        if run is None:
            return Renewal(lease.run_id, held=False, signals=0, cancel_requested=False)
        held = is_current(run, lease)
        if held:
            run.state = replace(run.state, lease_until_ms=until_ms)
            run.due_ms = until_ms
        return Renewal(lease.run_id, held, run.state.signals, run.state.is_cancel_requested)
