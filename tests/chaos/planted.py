"""Faults planted on purpose, one at a time, to show that what looks for broken promises finds them.

Each changes agentq for as long as a test's `monkeypatch` lasts. To plant another one, add it to `PLANTED`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq.decide import PlannedCall, RunCalls, Settle, decide
from agentq.events.fold import Replayer
from agentq.events.memory import MemoryEventStream
from agentq.loop import iteration
from agentq.loop.calls import Calls
from agentq.loop.durable import Parts
from agentq.loop.gates import Gates
from agentq.runs import Status
from agentq.stores import _memory_moves, _memory_run, _memory_signals, memory
from agentq.stores._memory_cancels import Cancels
from agentq.stores._memory_places import Places
from agentq.stores.memory import MemoryStore
from agentq.worker.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from agentq.decide import Decision, View
    from agentq.runs import RunState
    from agentq.stores.base import Lease
    from agentq.testing.simulation import Played


@dataclass(frozen=True, slots=True)
class Fault:
    """`plant` puts the fault in; `shows` is what the violations say by which it is found.

    `first` is the seed to begin with, where worlds that show it are rare: it saves time, and nothing hangs on it.
    """

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    shows: str
    first: int = 1

    def is_shown_by(self, played: Played) -> bool:
        return any(self.shows in violation for violation in played.violations)


def _no_fence_check(patch: pytest.MonkeyPatch) -> None:
    def check_status(run: Any, lease: Lease) -> None:
        if run.state.status is not Status.RUNNING:
            _check_lease(run, lease)

    _check_lease = _memory_run.check_lease
    patch.setattr(memory, "check_lease", check_status)


def _fence_does_not_grow(patch: pytest.MonkeyPatch) -> None:
    def take(run: Any, owner: str, now: int, lease_ms: int) -> Lease:
        lease = _memory_moves.take(run, owner, now, lease_ms)
        fence = max(lease.fence - 1, 1)
        run.state = dataclasses.replace(run.state, fence=fence)
        return dataclasses.replace(lease, fence=fence)

    patch.setattr(memory, "take", take)


def _commit_is_not_idempotent(patch: pytest.MonkeyPatch) -> None:
    async def commit(self: Any, lease: Lease, *arguments: Any, **named: Any) -> Any:
        self._runs[lease.run_id].committed = None
        return await _commit(self, lease, *arguments, **named)

    _commit = MemoryStore.commit
    patch.setattr(MemoryStore, "commit", commit)


def _journal_doubles(patch: pytest.MonkeyPatch) -> None:
    async def journal(self: Any, lease: Lease, *arguments: Any, **named: Any) -> Any:
        self._runs[lease.run_id].batch = None
        return await _journal(self, lease, *arguments, **named)

    _journal = MemoryStore.journal
    patch.setattr(MemoryStore, "journal", journal)


def _nobody_sweeps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sweeper, "start", lambda self: None)


def _once_is_repeated(patch: pytest.MonkeyPatch) -> None:
    def decide_again(view: View) -> Decision:
        decision = decide(view)
        if not isinstance(decision, Settle):
            return decision
        attempt = view.steps.calls[decision.call.call_id].attempt
        return RunCalls((PlannedCall(decision.call, attempt + 1, "once"),))

    patch.setattr(iteration, "decide", decide_again)


def _results_are_journaled_late(patch: pytest.MonkeyPatch) -> None:
    """After the batch, not one by one: a crash repeats what has finished."""

    async def make(self: Any, decision: RunCalls) -> None:
        late: list[tuple[Any, ...]] = []

        async def keep(*arguments: Any) -> None:
            late.append(arguments)

        keeping = self._keeping
        keeping.journal, write = keep, keeping.journal
        try:
            await _make(self, decision)
        finally:
            del keeping.journal
        for arguments in late:
            await write(*arguments)

    _make = Calls.make
    patch.setattr(Calls, "make", make)


def _tail_is_not_read_again(patch: pytest.MonkeyPatch) -> None:
    """A viewer waits for the next write although there was one while it was busy with those before."""

    async def follow(self: Any, run_id: str, *, after: int = 0, live: bool = True) -> Any:
        replayer = Replayer(after)
        while True:
            run = self._find(run_id)
            for event in replayer.feed(run.log.read(replayer.fed), complete=True):
                yield event
            if not live or run.status.is_final:
                return
            await run.log.changed.wait()

    patch.setattr(MemoryEventStream, "follow", follow)


def _effects_start_after_a_cancel(patch: pytest.MonkeyPatch) -> None:
    async def journal(self: Any, lease: Lease, records: Any, *arguments: Any, **named: Any) -> Any:
        harmless = [dataclasses.replace(record, starts_effect=False) for record in records]
        return await _journal(self, lease, harmless, *arguments, **named)

    _journal = MemoryStore.journal
    patch.setattr(MemoryStore, "journal", journal)


def _live_leases_are_taken(patch: pytest.MonkeyPatch) -> None:
    def is_claimable(state: RunState, now: int) -> bool:
        return state.status is Status.RUNNING or _memory_run.is_claimable(state, now)

    patch.setattr(memory, "is_claimable", is_claimable)


def _take_over_loses_the_journal(patch: pytest.MonkeyPatch) -> None:
    def take(run: Any, *arguments: Any) -> Lease:
        if run.is_running:
            run.journal.clear()
        return _memory_moves.take(run, *arguments)

    patch.setattr(memory, "take", take)


def _sessions_are_not_in_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_may_start", lambda self, run: True)


def _end_of_child_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "tell_of_end", lambda parent, now: None)


def _cancel_stops_at_the_first_generation(patch: pytest.MonkeyPatch) -> None:
    def ask_below(self: Any, run: Any, reason: str, now: int) -> None:
        for child in filter(None, map(self._find, run.children)):
            if not child.state.status.is_final:
                self.ask(child, reason, now)

    patch.setattr(Cancels, "ask_below", ask_below)


def _children_outlive_their_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cancels, "ask_below", lambda self, run, reason, now: None)


def _child_is_created_twice(patch: pytest.MonkeyPatch) -> None:
    async def create(self: Any, new: Any, **named: Any) -> Any:
        if new.parent_run_id is not None and self._runs.pop(new.run_id, None) is not None:
            self._runs[new.parent_run_id].children.remove(new.run_id)
        return await _create(self, new, **named)

    _create = MemoryStore.create
    patch.setattr(MemoryStore, "create", create)


def _refused_step_changes_state(patch: pytest.MonkeyPatch) -> None:
    async def journal(self: Any, lease: Lease, records: Any, *arguments: Any, **named: Any) -> Any:
        changes = [change for record in records for change in record.changes]
        _memory_moves.change_values(self._runs[lease.run_id], changes, self._sessions, 1_000)
        return await _journal(self, lease, records, *arguments, **named)

    _journal = MemoryStore.journal
    patch.setattr(MemoryStore, "journal", journal)


def _state_is_lost_with_the_worker(patch: pytest.MonkeyPatch) -> None:
    async def journal(self: Any, lease: Lease, records: Any, *arguments: Any, **named: Any) -> Any:
        bare = [dataclasses.replace(record, changes=()) for record in records]
        return await _journal(self, lease, bare, *arguments, **named)

    _journal = MemoryStore.journal
    patch.setattr(MemoryStore, "journal", journal)


def _decision_can_be_changed(patch: pytest.MonkeyPatch) -> None:
    def decide_anew(run: Any, decision: Any, now: int) -> Any:
        run.journal.pop(decision.record.name, None)
        return _decide(run, decision, now)

    _decide = _memory_moves.decide
    patch.setattr(_memory_signals, "decide", decide_anew)


def _denied_call_is_made(patch: pytest.MonkeyPatch) -> None:
    def approval(self: Any, call: Any) -> Any:
        found = _approval(self, call)
        return found if found is None else found.model_copy(update={"decision": "approved"})

    _approval = Gates._approval  # noqa: SLF001 - it is replaced
    patch.setattr(Gates, "_approval", approval)


def _nobody_is_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Gates, "_needs_approval", lambda self, *_: False)


def _time_is_over_too_soon(patch: pytest.MonkeyPatch) -> None:
    def has_expired(self: Any, wait: Any) -> bool:
        return bool(0 < wait.until_ms <= self.now_ms + 500)

    patch.setattr(Parts, "has_expired", has_expired)


def _late_look_misses_signals(patch: pytest.MonkeyPatch) -> None:
    async def read(self: Any, *, again: bool = False) -> None:
        if not again:
            await _read_signals(self)

    _read_signals = Parts.read_signals
    patch.setattr(Parts, "read_signals", read)


def _early_signals_are_dropped(patch: pytest.MonkeyPatch) -> None:
    def keep(run: Any, signal: Any, now: int) -> Any:
        told = _keep_signal(run, signal, now)
        if run.state.status is not Status.WAITING:
            run.signals[signal.signal_id] = None
        return told

    _keep_signal = _memory_moves.keep_signal
    patch.setattr(_memory_signals, "keep_signal", keep)


def _signal_is_taken_twice(patch: pytest.MonkeyPatch) -> None:
    async def journal(self: Any, lease: Lease, records: Any, *arguments: Any, **named: Any) -> Any:
        left = [dataclasses.replace(record, takes=()) for record in records]
        return await _journal(self, lease, left, *arguments, **named)

    _journal = MemoryStore.journal
    patch.setattr(MemoryStore, "journal", journal)


def _paused_runs_go_on(patch: pytest.MonkeyPatch) -> None:
    def set_anyway(self: Any, now: int, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, updated_ms=now, seq=self.log.seq, **changes)

    patch.setattr(_memory_run.MemoryRun, "set", set_anyway)


def _pause_of_all_is_not_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_is_paused", lambda self, run: False)


def _resumed_run_is_not_due(patch: pytest.MonkeyPatch) -> None:
    def resume(run: Any, by: str, now: int) -> Any:
        was_paused = run.state.status is Status.PAUSED
        told = _resume(run, by, now)
        if was_paused:
            run.due_ms = None
        return told

    _resume = _memory_moves.resume
    patch.setattr(_memory_signals, "resume", resume)


def _message_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    async def commit(self: Any, lease: Lease, commit: Any, **named: Any) -> Any:
        run = self._runs[lease.run_id]
        inbox, run.inbox = run.inbox, []
        unseen = dataclasses.replace(commit, signals_seen=run.state.signals)
        answer = await _commit(self, lease, unseen if inbox else commit, **named)
        run.inbox = inbox
        return answer

    _commit = MemoryStore.commit
    patch.setattr(MemoryStore, "commit", commit)


def _newer_run_forgets_nothing(patch: pytest.MonkeyPatch) -> None:
    def make_way(self: Any, session: Any, when_busy: Any, now: int) -> Any:
        return _make_way(self, session, "interrupt" if when_busy == "replace" else when_busy, now)

    _make_way = MemoryStore._make_way  # noqa: SLF001 - it is replaced
    patch.setattr(MemoryStore, "_make_way", make_way)


def _newer_run_stops_one_only(patch: pytest.MonkeyPatch) -> None:
    def make_way(self: Any, session: Any, when_busy: Any, now: int) -> Any:
        line = list(session.line)
        session.line.clear()
        stopped = _make_way(self, session, when_busy, now)
        session.line.extend(line)
        return stopped

    _make_way = MemoryStore._make_way  # noqa: SLF001 - it is replaced
    patch.setattr(MemoryStore, "_make_way", make_way)


def _places_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Places, "admits", lambda self, run, now: True)


PLANTED = (
    Fault("no fence check", _no_fence_check, "was taken"),
    Fault("fence does not grow", _fence_does_not_grow, "was given after fence"),
    Fault("commit is not idempotent", _commit_is_not_idempotent, "sent again"),
    Fault("what is journaled again is written twice", _journal_doubles, "were told"),
    Fault("nobody sweeps", _nobody_sweeps, "are left"),
    Fault("once is repeated after a crash", _once_is_repeated, "must happen once and was entered again"),
    Fault("results are journaled after the batch", _results_are_journaled_late, "was entered before the result of"),
    Fault("effects start after a cancel", _effects_start_after_a_cancel, "after the cancel"),
    Fault("live leases are taken", _live_leases_are_taken, "held a live lease"),
    Fault(
        "a take-over loses the journal",
        _take_over_loses_the_journal,
        "was asked again although its reply was journaled",
    ),
    Fault("sessions are not in line", _sessions_are_not_in_line, "before its turn in its session"),
    Fault("the end of a child does not wake its parent", _end_of_child_wakes_nobody, "to wake the run that started it"),
    Fault("a cancel stops at the first generation", _cancel_stops_at_the_first_generation, "cancel"),
    Fault("children outlive their parent", _children_outlive_their_parent, "cancel"),
    Fault("a child is created twice", _child_is_created_twice, "was stored twice"),
    Fault("a step that was refused changes state", _refused_step_changes_state, "keeps a count of"),
    Fault("state is not stored with its step", _state_is_lost_with_the_worker, "keeps a count of"),
    Fault("the tail is not read again", _tail_is_not_read_again, "viewers are left"),
    Fault("a decision can be changed", _decision_can_be_changed, "after that"),
    Fault("a call that was denied is made", _denied_call_is_made, "had allowed it: it was"),
    Fault("nobody is asked", _nobody_is_asked, "nobody had decided on it"),
    Fault("a wait is over too soon", _time_is_over_too_soon, "too soon"),
    Fault("a late look misses signals", _late_look_misses_signals, "gave up, and signal"),
    Fault("signals that come first are dropped", _early_signals_are_dropped, "signal"),
    Fault("a signal is taken twice", _signal_is_taken_twice, "was taken by"),
    Fault("paused runs go on", _paused_runs_go_on, "paused"),
    Fault("a pause of all is not seen", _pause_of_all_is_not_seen, "it was claimed although"),
    Fault("a run that was resumed is not due", _resumed_run_is_not_due, "are left"),
    Fault("a message is not heard", _message_is_not_heard, "without having seen"),
    Fault("what was replaced is kept", _newer_run_forgets_nothing, "session"),
    Fault("a newer run stops one only", _newer_run_stops_one_only, ""),
    Fault("places of a key are not counted", _places_are_not_counted, "with its key"),
)
