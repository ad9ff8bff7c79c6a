"""What the in-memory store does to one run: take it, hand it back, answer what it asked. Looks at nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentq.errors import (
    AlreadyDecided,
    CancelRequested,
    IllegalTransition,
    InboxFull,
    NotFinished,
    NotWaiting,
    RunAlreadyFinished,
    RunNotFound,
)
from agentq.events.model import CancelRequestedEvent, Event, RunPaused, RunRecovered, RunResumed, RunStarted
from agentq.messages import encode_message
from agentq.runs import LIMIT, Pause, Phase, RunState, Status
from agentq.steps import REPLY
from agentq.stores._memory_run import GRACE_MS, MemoryRun, check_lease, waits_for_child
from agentq.stores.base import Answer, Decision, EventBatch, Lease, Released, Rest, Retry, Signal, Signalled, Steer
from agentq.stores.values import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.limits import RunLimits
    from agentq.stores._memory_sessions import MemorySessions
    from agentq.stores.values import Change

# So many messages may wait for a run; as in steer.lua.
_ROOM = 100
# So many signals that no step has taken; as in signal.lua.
_ROOM_FOR_SIGNALS = 1000


def take(run: MemoryRun, owner: str, now: int, lease_ms: int) -> Lease:
    """Give `owner` the lease of a run that can be claimed."""
    state = run.state
    recoveries = state.recoveries
    if run.is_running:
        recoveries += 1
        recovered = RunRecovered(recoveries=recoveries, previous_owner=state.owner or "")
        run.log.write((recovered,), at_ms=now, drop="recovered")
    elif state.fence == 0:
        run.log.write((RunStarted(agent=state.agent, worker=owner),), at_ms=now)
    run.batch = None
    run.due_ms = now + lease_ms
    if run.inbox and REPLY not in run.journal:
        run.messages += run.inbox
        run.inbox.clear()
        run.state = replace(run.state, message_count=len(run.messages), heard_at=state.iteration)
    run.set(
        now,
        status=Status.RUNNING,
        phase=Phase.THINKING,
        fence=state.fence + 1,
        owner=owner,
        lease_until_ms=now + lease_ms,
        not_before_ms=0,
        questions=(),
        recoveries=recoveries,
        started_ms=state.started_ms or now,
        progressed_ms=state.progressed_ms or now,
    )
    return Lease(state.run_id, state.fence + 1, owner)


def release(
    run: MemoryRun,
    lease: Lease,
    batch: EventBatch,
    rest: Rest | None,
    now: int,
    *,
    tell: Callable[[MemoryRun, Rest | None], None],
) -> Released:
    """See `Store.release`. `tell` is called with what the run rests for."""
    if run.released is not None and run.released[0] == lease.fence:
        return run.released[1]
    check_lease(run, lease)
    if rest is not None and run.state.signals > rest.signals_seen:
        rest = None
    events = batch.events if rest is None else (*batch.events, *rest.closing)
    status = Status.QUEUED if rest is None else Status.WAITING
    run.log.write(events, at_ms=now, fold=batch.fold, drop="released")
    until = now + rest.within_ms if rest is not None and rest.within_ms else 0
    run.due_ms = now + GRACE_MS if rest is None else until or None
    questions = () if rest is None else rest.questions
    run.set(now, status=status, phase=None, owner=None, lease_until_ms=0, not_before_ms=until, questions=questions)
    if rest is not None:
        run.state = replace(run.state, progressed_ms=0)
    tell(run, rest)
    released = Released(run.state.status, woken=False)
    run.released = lease.fence, released
    return released


def change_values(run: MemoryRun, changes: Sequence[Change], sessions: MemorySessions, user_ttl_ms: int) -> None:
    """Change what tools keep for the run, its session and its user."""
    apply(run.values, [change for change in changes if change.scope == "run"])
    if run.session is not None:
        apply(run.session.values, [change for change in changes if change.scope == "session"])
    of_user = [change for change in changes if change.scope == "user"]
    if run.state.user_id is not None and of_user:
        values = sessions.values_of_user(run.state.user_id)
        apply(values, of_user)
        sessions.keep_for_user(run.state.user_id, values, user_ttl_ms)


def add_child(parent: MemoryRun | None, run_id: str) -> None:
    """Note a run that another one starts. Raises as `Store.create` does."""
    if parent is None or parent.state.status.is_final or parent.state.is_cancel_requested:
        raise CancelRequested(f"run {run_id} does not start: its parent was cancelled or has ended")
    if run_id in parent.children:
        raise RunNotFound.of(run_id)
    parent.children.append(run_id)


def go_on(run: MemoryRun, now: int) -> None:
    """Queue a run that waited."""
    run.due_ms = now + GRACE_MS
    run.set(now, status=Status.QUEUED, questions=(), not_before_ms=0)


def tell_of_end(parent: MemoryRun | None, now: int) -> str | None:
    """Tell the run that started another of its end; its id if it waited for that."""
    if parent is None or parent.state.status.is_final:
        return None
    waits = waits_for_child(parent.state)
    parent.state = replace(parent.state, signals=parent.state.signals + 1)
    if not waits:
        return None
    go_on(parent, now)
    return parent.state.run_id


def ask_to_cancel(run: MemoryRun, reason: str, now: int, by: str = "") -> bool:
    """See `Store.cancel`; whether it is news. A run that waits or is paused is queued again, so that it can end."""
    if run.state.status.is_final or run.state.is_cancel_requested:
        return False
    run.log.write((CancelRequestedEvent(reason=reason, by=by),), at_ms=now)
    run.set(now, cancel_reason=reason, signals=run.state.signals + 1, not_before_ms=0, pause=None)
    run.turn.set()
    if not run.is_held(now):
        run.due_ms = now
        run.set(now, status=Status.RUNNING if run.is_running else Status.QUEUED, questions=())
    return True


def give_answer(run: MemoryRun, answer: Answer, now: int) -> Released:
    """See `Store.answer`."""
    state, record = run.state, answer.record
    if run.answered is not None and (run.answered[0].fence, run.answered[0].record) == (answer.fence, record):
        return run.answered[1]
    if state.status is not Status.WAITING or state.fence != answer.fence:
        raise NotWaiting(f"run {state.run_id} is {state.status} and does not wait for this answer")
    run.journal[record.name] = record.value
    run.log.write(answer.events, at_ms=now)
    run.set(now, signals=state.signals + 1)
    go_on(run, now)
    released = Released(run.state.status, woken=False)
    run.answered = answer, released
    return released


def decide(run: MemoryRun, decision: Decision, now: int) -> Released:
    """See `Store.decide`."""
    state, record = run.state, decision.record
    stands = run.journal.get(record.name)
    if stands == record.value or (record.name, record.value) in run.decided:
        return _again(run)
    if state.status.is_final or state.is_cancel_requested:
        raise NotWaiting(f"run {state.run_id} was cancelled or has ended: nothing is decided on its calls any more")
    if stands is not None:
        raise AlreadyDecided(f"run {state.run_id}: {AlreadyDecided().args[0]}")
    if run.journal.get(decision.call_id) != decision.seen:
        raise NotWaiting(f"run {state.run_id}: call {decision.call_id} does not wait for this")
    run.journal[record.name] = record.value
    run.decided.add((record.name, record.value))
    return _told(run, decision.events, now)


def keep_signal(run: MemoryRun, signal: Signal, now: int) -> Released:
    """See `Store.signal`."""
    if signal.signal_id in run.signals:
        return _again(run)
    if run.state.status.is_final:
        raise RunAlreadyFinished(f"run {run.state.run_id} has already {run.state.status}")
    if sum(kept is not None for kept in run.signals.values()) >= _ROOM_FOR_SIGNALS:
        raise InboxFull(f"run {run.state.run_id}: {InboxFull().args[0]}")
    run.signals[signal.signal_id] = signal
    return _told(run, signal.events, now)


def _again(run: MemoryRun) -> Released:
    """It was told that before; whoever was to wake it has perhaps never heard of that."""
    return Released(run.state.status, woken=run.state.status is not Status.QUEUED)


def _told(run: MemoryRun, events: tuple[Event, ...], now: int) -> Released:
    """The run has been told something: it is queued if it waits."""
    run.log.write(events, at_ms=now)
    run.set(now, signals=run.state.signals + 1)
    if run.state.status is Status.WAITING:
        go_on(run, now)
    return Released(run.state.status, woken=run.state.status is not Status.QUEUED)


def take_message(run: MemoryRun, steer: Steer, now: int) -> Status:
    """See `Store.steer`."""
    state = run.state
    if steer.token in run.steered:
        return state.status
    if state.status.is_final:
        raise RunAlreadyFinished(f"run {state.run_id} has already {state.status}")
    if state.is_cancel_requested:
        raise CancelRequested(f"run {state.run_id} was cancelled and is about to end")
    if len(run.inbox) >= _ROOM:
        raise InboxFull(f"run {state.run_id}: {InboxFull().args[0]}")
    run.steered.add(steer.token)
    run.inbox.append(encode_message(steer.message))
    (run.session or run).files.update(steer.files)
    run.log.write(steer.events, at_ms=now)
    run.set(now, signals=state.signals + 1)
    return state.status


def pause(run: MemoryRun, reason: str, by: str, now: int) -> Signalled:
    """See `Store.pause`."""
    state = run.state
    if state.status.is_final:
        raise RunAlreadyFinished(f"run {state.run_id} has already {state.status}")
    if state.is_cancel_requested:
        raise CancelRequested(f"run {state.run_id} was cancelled and is about to end")
    if state.pause is None:
        run.log.write((RunPaused(reason=reason, by=by),), at_ms=now)
        run.set(now, status=state.status, pause=Pause(reason, by, now), signals=state.signals + 1)
    return Signalled(run.state.status, held=run.is_held(now))


def resume(run: MemoryRun, by: str, now: int) -> Released:
    """See `Store.resume`."""
    state = run.state
    if state.pause is not None:
        run.log.write((RunResumed(by=by),), at_ms=now)
        run.set(now, pause=None, signals=state.signals + 1)
        if state.status is Status.PAUSED:
            run.due_ms = None if state.waits_for_session else max(state.not_before_ms, now + GRACE_MS)
            run.set(now, status=Status.QUEUED)
    return Released(run.state.status, woken=run.state.status is not Status.QUEUED or run.state.waits_for_session)


def abandon(run: MemoryRun, now: int) -> None:
    """Rest a run that was paused while somebody held it who is lost."""
    recovered = RunRecovered(recoveries=run.state.recoveries + 1, previous_owner=run.state.owner or "")
    run.log.write((recovered,), at_ms=now, drop="recovered")
    run.set(now, status=Status.QUEUED, phase=None, owner=None, lease_until_ms=0, recoveries=run.state.recoveries + 1)


def set_limits(run: MemoryRun, limits: RunLimits, events: Sequence[Event], now: int) -> Released:
    """See `Store.set_limits`."""
    state = run.state
    waits = state.status is Status.WAITING and any(asked.kind == LIMIT for asked in state.questions)
    if state.limits == limits and not waits:
        return _again(run)
    # Nothing follows the last event of a run that has ended.
    run.log.write(() if state.status.is_final else events, at_ms=now)
    run.set(now, limits=limits, signals=state.signals + 1)
    if waits:
        go_on(run, now)
    return Released(run.state.status, woken=not waits)


def check_retry(state: RunState, retry: Retry) -> None:
    """Raise `NotFinished` or `IllegalTransition` unless the run can be opened again."""
    if not state.status.is_final or state.fence != retry.fence:
        raise NotFinished(f"run {state.run_id} is {state.status}: {NotFinished().args[0]}")
    if state.status is Status.COMPLETED:
        raise IllegalTransition(f"run {state.run_id} has completed and cannot be retried")


def reopen(run: MemoryRun, retry: Retry, now: int) -> Released:
    """See `Store.retry`."""
    state = run.state
    run.messages += [encode_message(message) for message in retry.messages]
    run.log.write(retry.events, at_ms=now)
    run.expires_ms, run.forgets, run.asked = None, False, set()
    run.due_ms = now + GRACE_MS
    run.set(
        now,
        status=Status.QUEUED,
        cancel_reason=None,
        pause=None,
        signals=state.signals + 1,
        errors=0,
        recoveries=0,
        last_error=None,
        finished_ms=0,
        retries=state.retries + 1,
        retried_at=state.iteration,
        retried_usage=dict(state.usage),
        started_ms=0,
        progressed_ms=0,
        message_count=len(run.messages),
    )
    released = Released(Status.QUEUED, woken=False)
    run.retried = retry.fence, released
    return released
