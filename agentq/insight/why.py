"""PURE: why a run is not moving, judged from a snapshot. What to do about it is said in terms of the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentq._words import age, count, duration
from agentq.insight.past import past
from agentq.insight.pauses import paused_with, will_pause
from agentq.insight.phrases import names, short, wakeups
from agentq.insight.reasons import Code, Reason, reason_of
from agentq.insight.resting import resting
from agentq.runs import SCHEMA_VERSION, Phase, Status, pausing_scope
from agentq.settings import DEFAULT_QUEUE

if TYPE_CHECKING:
    from agentq.insight.facts import QueueFacts, Snapshot, SweepFacts, WorkerInfo

# Workers sweep every half second, and where leases are very long at an eighth of one.
_SWEEP_LATE_MS = 10_000
# A wake-up that was made so recently may be on its way; the sweeper waits as long (GRACE_MS in _wake.lua).
_GRACE_MS = 2000


def explain(seen: Snapshot) -> Reason:
    """Name the reason why a run is not moving. From every status."""
    reason = _explain(seen)
    return replace(reason, notes=(*reason.notes, *will_pause(seen), *past(seen)))


def _explain(seen: Snapshot) -> Reason:
    run = seen.run
    match run.status:
        case Status.COMPLETED | Status.FAILED | Status.CANCELLED:
            return _ended(seen)
        case Status.WAITING | Status.PAUSED:
            return resting(seen)
        case Status.RUNNING if run.lease_until_ms > seen.now_ms:
            return _held(seen)
    if run.version > SCHEMA_VERSION:
        return reason_of(
            seen,
            Code.NEWER_VERSION,
            f"a newer agentq has stored it (form {run.version}, this one reads {SCHEMA_VERSION})",
            "only workers of that version take it: start some",
        )
    return _expired(seen) if run.status is Status.RUNNING else _queued(seen)


def start_worker(queue: str) -> str:
    """What to do where nobody serves the queue."""
    return f"start: agentq worker{'' if queue == DEFAULT_QUEUE else f' -q {queue}'}"


def is_sweep_late(swept_ms: int | None, now_ms: int) -> bool:
    """Whether nobody has swept for so long that nobody does; None: nobody for a day."""
    return swept_ms is None or now_ms - swept_ms > _SWEEP_LATE_MS


def _ended(seen: Snapshot) -> Reason:
    run = seen.run
    since = f"{age(seen.now_ms - run.finished_ms)} ago"
    notes = () if seen.expires_ms is None else (f"it is kept for another {age(seen.expires_ms - seen.now_ms)}",)
    details: dict[str, Any] = {"finished_ms": run.finished_ms, "expires_ms": seen.expires_ms}
    match run.status:
        case Status.FAILED:
            error = short(run.last_error or "no reason was recorded")
            fix = f"agentq show {run.run_id} shows what happened; agentq retry {run.run_id} takes it up from there"
            return reason_of(seen, Code.FAILED, f"it failed {since}: {error}", fix, *notes, **details)
        case Status.CANCELLED:
            why = f": {short(run.cancel_reason)}" if run.cancel_reason else ""
            fix = f"agentq retry {run.run_id} takes it up again"
            return reason_of(seen, Code.CANCELLED, f"it was cancelled {since}{why}", fix, *notes, **details)
        case _:
            text = f"it completed {since}, after {count(run.iteration, 'iteration')}"
            return reason_of(seen, Code.COMPLETED, text, "", *notes, **details)


def _held(seen: Snapshot) -> Reason:
    run = seen.run
    left = duration(run.lease_until_ms - seen.now_ms)
    details: dict[str, Any] = {
        "owner": run.owner,
        "phase": run.phase,
        "since_ms": run.updated_ms,
        "lease_until_ms": run.lease_until_ms,
    }
    if run.is_cancel_requested:
        text = f"cancel was requested, and worker {run.owner} is stopping it"
        note = "a tool with an effect that has begun is finished first"
        return reason_of(seen, Code.CANCELLING, text, "", note, **details)
    notes = [f"its lease, renewed all the time, is good for {left} more"]
    if seen.queue is not None and not seen.queue.is_owner_registered:
        # A job that a stock worker runs holds the lease under a name of its own.
        if any(worker.state == "busy" and not worker.is_agentq for worker in seen.queue.workers):
            notes.append(
                "it is not registered by that name; a stock rq worker is busy on the queue, most likely with it"
            )
            return reason_of(seen, Code.RUNNING, _at_work(seen), "", *notes, **details)
        text = f"worker {run.owner} holds its lease for another {left}, but is not registered"
        note = "most likely it was killed; a lease that is not renewed passes to another worker"
        return reason_of(seen, Code.OWNER_MISSING, text, "", note, **details)
    return reason_of(seen, Code.RUNNING, _at_work(seen), "", *notes, **details)


def _at_work(seen: Snapshot) -> str:
    run = seen.run
    doing = "uses tools" if run.phase is Phase.USING_TOOLS else "is thinking"
    since = duration(seen.now_ms - run.updated_ms)
    return f"worker {run.owner} has had it for {since} and {doing}, in iteration {run.iteration + 1}"


def _expired(seen: Snapshot) -> Reason:
    """Running, but the lease has run out."""
    run = seen.run
    lost = f"worker {run.owner} stopped renewing its lease {duration(seen.now_ms - run.lease_until_ms)} ago"
    details: dict[str, Any] = {"owner": run.owner, "lease_until_ms": run.lease_until_ms, "recoveries": run.recoveries}
    if blocked := _blocked(seen):
        return replace(blocked, text=f"{lost}; {blocked.text}", details={**blocked.details, **details})
    if seen.sweep is None:
        return reason_of(seen, Code.LEASE_EXPIRED, f"{lost}; the next sweep hands the run to another", **details)
    if is_sweep_late(seen.sweep.swept_ms, seen.now_ms):
        return _not_swept(seen, seen.sweep, lost, details)
    left = seen.sweep.recovers_from_ms - seen.now_ms
    if left > 0:
        text = f"{lost}; as nobody swept for a while, workers get {duration(left)} more to renew"
        return reason_of(seen, Code.RECOVERY_HELD, text, until_ms=seen.sweep.recovers_from_ms, **details)
    place = seen.queue.place if seen.queue else None
    if place is not None and place.ahead is not None:
        text = f"{lost}; another takes it over, after {wakeups(place.ahead)} before it in line"
        return reason_of(seen, Code.LEASE_EXPIRED, text, ahead=place.ahead, **details)
    return reason_of(seen, Code.LEASE_EXPIRED, f"{lost}; the next sweep hands the run to another", **details)


def _queued(seen: Snapshot) -> Reason:
    run = seen.run
    if run.is_cancel_requested:
        text = "cancel was requested, and the next worker that takes it ends it"
        return reason_of(seen, Code.CANCEL_REQUESTED, text, f"agentq cancel {run.run_id} ends it from here")
    if run.waits_for_session:
        return _behind(seen)
    if run.waits_for_place:
        return _gated(seen)
    if run.not_before_ms > seen.now_ms:
        return _delayed(seen)
    return _blocked(seen) or (_shelved(seen) if run.waits_for_tenant else _in_line(seen))


def _shelved(seen: Snapshot) -> Reason:
    """As many runs of its tenant stand in the queue as may."""
    run, others = seen.run, seen.tenant
    whose = "with a priority" if run.tenant is None else f"of tenant {run.tenant!r}"
    if others is None:
        return reason_of(seen, Code.WAITS_FOR_TENANT, f"it stands behind other runs {whose}", tenant=run.tenant)
    if others.is_lost:
        return reason_of(
            seen,
            Code.STUCK,
            f"it waits in the line of runs {whose}, which does not know it: somebody deleted keys",
            f"agentq pause {run.run_id}; agentq resume {run.run_id}",
        )
    before = others.standing + others.ahead
    return reason_of(
        seen,
        Code.WAITS_FOR_TENANT,
        f"it stands behind {count(before, 'run')} {whose}, {others.standing} of which wait in queue {run.queue}",
        tenant=run.tenant,
        standing=others.standing,
        line_ahead=others.ahead,
    )


def _gated(seen: Snapshot) -> Reason:
    """As many as may go on with its key do so."""
    run, places = seen.run, seen.places
    taken = run.concurrency if places is None else places.taken
    before = places.ahead if places is not None and places.ahead else 0
    others = f", and {count(before, 'other')} {'is' if before == 1 else 'are'} before it in line" if before else ""
    return reason_of(
        seen,
        Code.WAITS_FOR_PLACE,
        f"{count(taken, 'run')} of {run.concurrency_key!r} {'goes' if taken == 1 else 'go'} on, of at most "
        f"{run.concurrency}{others}",
        concurrency_key=run.concurrency_key,
        taken=taken,
        line_ahead=before,
    )


def _behind(seen: Snapshot) -> Reason:
    if seen.behind is None:
        other = f"run {seen.behind_id}" if seen.behind_id else "a run"
        return reason_of(
            seen,
            Code.BEHIND_NOTHING,
            f"it is in line behind {other} of its session, which is gone",
            "the next run of the session sets it going; or cancel it and enqueue it again",
            behind=seen.behind_id,
        )
    because = explain(seen.behind)
    others = f" and {count(seen.line_ahead, 'other')} are" if seen.line_ahead else " is"
    text = f"run {because.run_id}{others} before it in its session; that run is {because.status}: {because.text}"
    found = reason_of(seen, Code.BEHIND, text, because.fix, behind=because.run_id, line_ahead=seen.line_ahead)
    return replace(found, because=because)


def _delayed(seen: Snapshot) -> Reason:
    run = seen.run
    left = duration(run.not_before_ms - seen.now_ms)
    notes = []
    if blocked := _blocked(seen):
        notes.append(f"now: {blocked.text}; {blocked.fix}")
    elif seen.sweep and is_sweep_late(seen.sweep.swept_ms, seen.now_ms):
        notes.append(f"only a worker of agentq starts it then, and none is there; {start_worker(run.queue)}")
    details: dict[str, Any] = {"until_ms": run.not_before_ms, "errors": run.errors, "last_error": run.last_error}
    if run.errors:
        failed = "its last turn failed" if run.errors == 1 else f"its last {run.errors} turns failed"
        text = f"{failed} ({short(run.last_error or 'no reason was recorded')}); it tries again in {left}"
        return reason_of(seen, Code.BACKING_OFF, text, "", *notes, **details)
    return reason_of(seen, Code.DELAYED, f"it starts in {left}, as it was asked to", "", *notes, **details)


def _blocked(seen: Snapshot) -> Reason | None:
    """What keeps every worker of its queue from taking it."""
    queue, run = seen.queue, seen.run
    if (scope := pausing_scope(run, seen.pauses)) is not None:
        return paused_with(seen, scope)
    if queue is None:
        return None
    where = f"queue {run.queue}"
    details: dict[str, Any] = {"queue": run.queue, "workers": len(queue.workers)}
    if not queue.workers:
        return reason_of(seen, Code.NO_WORKER, f"no worker on {where}", start_worker(run.queue), **details)
    if queue.is_suspended:
        return reason_of(
            seen, Code.SUSPENDED, "all workers are suspended (`rq suspend`)", "let them go on: rq resume", **details
        )
    if _lacks_agent(seen, queue):
        return reason_of(
            seen,
            Code.UNSERVED,
            f"no worker on {where} has agent {run.agent!r}",
            f"start one whose app has it: agentq --app MODULE:OBJECT worker -q {run.queue}",
            agent=run.agent,
            **details,
        )
    if all(_seems_dead(worker, seen) for worker in queue.workers):
        return reason_of(
            seen,
            Code.WORKERS_SILENT,
            f"no worker on {where} is heard any more: {names(queue.workers)}",
            f"one that was killed is forgotten within 90 s; {start_worker(run.queue)}",
            **details,
        )
    if told := _quiet_ones(seen, queue):
        return reason_of(
            seen,
            Code.WORKERS_QUIET,
            f"what could take it on {where} was told to be quiet: {names(told)}",
            f"agentq workers resume lets them take work again; or {start_worker(run.queue)}",
            **details,
        )
    return None


def _quiet_ones(seen: Snapshot, queue: QueueFacts) -> tuple[WorkerInfo, ...]:
    """The workers that are quiet, where no other could take the run."""
    able = [worker for worker in queue.workers if worker.agents is None or seen.run.agent in worker.agents]
    quiet = tuple(worker for worker in able if worker.is_quiet)
    return quiet if all(worker.is_quiet or _seems_dead(worker, seen) for worker in able) else ()


def _seems_dead(worker: WorkerInfo, seen: Snapshot) -> bool:
    """Whether its heartbeat is late, or it does not sweep: all workers of agentq do, a killed one no more."""
    is_new = seen.now_ms - worker.started_ms < _SWEEP_LATE_MS
    has_no_sweep = seen.sweep is not None and is_sweep_late(seen.sweep.swept_ms, seen.now_ms)
    return worker.is_silent or (worker.is_agentq and has_no_sweep and not is_new)


def _lacks_agent(seen: Snapshot, queue: QueueFacts) -> bool:
    known = [None if worker.agents is None else seen.run.agent in worker.agents for worker in queue.workers]
    is_parked = seen.sweep is not None and seen.sweep.is_parked
    return not any(known) and (is_parked or None not in known)


def _in_line(seen: Snapshot) -> Reason:
    queue, run = seen.queue, seen.run
    if queue is None:
        return reason_of(seen, Code.DUE, "it is due, and what advances it cannot be asked from here")
    workers = [worker for worker in queue.workers if not worker.is_quiet]
    serving = f"which {count(len(workers), 'worker')} serve{'s' if len(workers) == 1 else ''}"
    details: dict[str, Any] = {"queue": run.queue, "workers": len(queue.workers)}
    place = queue.place
    if place is None:
        return reason_of(seen, Code.DUE, f"it is due on queue {run.queue}, {serving}", **details)
    details |= {"ahead": place.ahead, "waiting": place.waiting}
    if place.is_gone:
        return _unheard(seen, details)
    # Not where the sweeper has asked for a new one.
    notes = () if not (seen.sweep and seen.sweep.woken_ms) else (_in_line_for(seen.now_ms - seen.sweep.woken_ms),)
    before = wakeups(place.ahead) if place.ahead is not None else f"more than {wakeups(place.looked_at)}"
    if all(worker.is_full for worker in workers):
        slots = sum(worker.concurrency or 1 for worker in workers)
        who = "its worker is" if len(workers) == 1 else f"all {len(workers)} workers are"
        text = f"{who} busy ({count(slots, 'iteration')} at once), with {before} before it on queue {run.queue}"
        fix = f"it waits for its turn; to be faster, {start_worker(run.queue)}"
        return reason_of(seen, Code.WORKERS_BUSY, text, fix, *notes, slots=slots, **details)
    what = "it is next" if place.ahead == 0 else f"{before} before it"
    return reason_of(seen, Code.IN_LINE, f"{what} on queue {run.queue}, {serving}", "", *notes, **details)


def _in_line_for(ms: int) -> str:
    return f"it has been in line for {duration(ms)}"


def _unheard(seen: Snapshot, details: dict[str, Any]) -> Reason:
    """Queued and due, and its wake-up is not in the queue."""
    sweep = seen.sweep
    if sweep is None:
        return reason_of(seen, Code.DUE, "it is due, and no wake-up of it is in the queue", **details)
    woken_ago = seen.now_ms - sweep.woken_ms
    if sweep.woken_ms and woken_ago < _GRACE_MS:
        return reason_of(seen, Code.WAKING, f"it was woken {duration(woken_ago)} ago, and is being taken", **details)
    if is_sweep_late(sweep.swept_ms, seen.now_ms):
        return _not_swept(seen, sweep, "its wake-up is gone", details)
    if sweep.is_parked:
        return reason_of(seen, Code.WAKING, "a worker has its agent now, and wakes it with its next sweep", **details)
    if sweep.due_ms is None:
        return reason_of(
            seen,
            Code.STUCK,
            "its wake-up is gone, and it is not among the runs that a sweep looks at",
            f"agentq cancel {seen.run.run_id} ends it; then enqueue it again",
            "keys of agentq were changed by hand, or Redis has lost some",
            **details,
        )
    left = max(sweep.due_ms - seen.now_ms, 0)
    when = f"in {duration(left)}" if left else "at once"
    return reason_of(seen, Code.WAKEUP_LOST, f"its wake-up is lost; a sweep makes a new one {when}", **details)


def _not_swept(seen: Snapshot, sweep: SweepFacts, what: str, details: dict[str, Any]) -> Reason:
    last = "for a day" if sweep.swept_ms is None else f"for {duration(seen.now_ms - sweep.swept_ms)}"
    return reason_of(
        seen,
        Code.NOT_SWEPT,
        f"{what}, and nobody has swept {last}",
        f"{start_worker(seen.run.queue)} (stock rq workers do not sweep)",
        swept_ms=sweep.swept_ms,
        **details,
    )
