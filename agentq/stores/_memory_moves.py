"""What the in-memory store does to one run: take it, hand it back, answer what it asked. Looks at nothing else."""

from __future__ import annotations

from agentq.errors import IllegalTransition, NotFinished, NotWaiting
from agentq.events.model import RunRecovered, RunStarted
from agentq.messages import encode_message
from agentq.runs import Phase, RunState, Status
from agentq.stores._memory_run import GRACE_MS, MemoryRun, check_lease
from agentq.stores.base import Answer, EventBatch, Lease, Released, Rest, Retry


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
    run.set(
        now,
        status=Status.RUNNING,
        phase=Phase.THINKING,
        fence=state.fence + 1,
        owner=owner,
        lease_until_ms=now + lease_ms,
        not_before_ms=0,
        recoveries=recoveries,
    )
    return Lease(state.run_id, state.fence + 1, owner)


def release(run: MemoryRun, lease: Lease, batch: EventBatch, rest: Rest | None, now: int) -> Released:
    """See `Store.release`."""
    if run.released is not None and run.released[0] == lease.fence:
        return run.released[1]
    check_lease(run, lease)
    if rest is not None and run.state.signals > rest.signals_seen:
        rest = None
    events = batch.events if rest is None else (*batch.events, *rest.closing)
    status = Status.QUEUED if rest is None else Status.WAITING
    run.log.write(events, at_ms=now, fold=batch.fold, drop="released")
    run.due_ms = now + GRACE_MS if rest is None else None
    question = None if rest is None else rest.question
    run.set(now, status=status, phase=None, owner=None, lease_until_ms=0, not_before_ms=0, question=question)
    released = Released(status, woken=False)
    run.released = lease.fence, released
    return released


def give_answer(run: MemoryRun, answer: Answer, now: int) -> Released:
    """See `Store.answer`."""
    state, record = run.state, answer.record
    if run.answered is not None and (run.answered[0].fence, run.answered[0].record) == (answer.fence, record):
        return run.answered[1]
    if state.status is not Status.WAITING or state.fence != answer.fence:
        raise NotWaiting(f"run {state.run_id} is {state.status} and does not wait for this answer")
    run.journal[record.name] = record.value
    run.log.write(answer.events, at_ms=now)
    run.due_ms = now + GRACE_MS
    run.set(now, status=Status.QUEUED, question=None, signals=state.signals + 1)
    released = Released(Status.QUEUED, woken=False)
    run.answered = answer, released
    return released


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
    run.expires_ms = None
    run.due_ms = now + GRACE_MS
    run.set(
        now,
        status=Status.QUEUED,
        cancel_reason=None,
        signals=state.signals + 1,
        errors=0,
        recoveries=0,
        last_error=None,
        finished_ms=0,
        retries=state.retries + 1,
        retried_at=state.iteration,
        message_count=len(run.messages),
    )
    released = Released(Status.QUEUED, woken=False)
    run.retried = retry.fence, released
    return released
