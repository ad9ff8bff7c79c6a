"""What the store of a simulated world has carried out, and what of it must not have happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.errors import AgentQError, LeaseLost, SessionBusy
from agentq.runs import CHILD, SUSPECT_RECOVERIES, Status
from agentq.steps import PART, read_steps
from agentq.testing.simulation.known import Known
from agentq.testing.simulation.outside import Outside
from agentq.testing.simulation.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.steps import CallStep
    from agentq.stores.base import (
        Answer,
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
        StepRecord,
    )
    from agentq.testing.simulation.faults import Figures


class Ledger:
    """Sees every command that the store carries out, and none of its state; `blame` hears what is wrong."""

    def __init__(self, now_ms: Callable[[], int], figures: Figures, blame: Callable[[str], None]) -> None:
        self.runs: dict[str, Known] = {}
        self.keys: dict[str, str] = {}
        self.figures = figures
        self.on_created: Callable[[str], None] = lambda _: None
        self.on_announced: Callable[[str], None] = lambda _: None
        self.on_waiting: Callable[[str], None] = lambda _: None
        self.now_ms = now_ms
        self.outside = Outside(now_ms, figures, self.wrong)
        self.sessions = Sessions(self.wrong)
        self._blame = blame
        self._claims: dict[tuple[str, str], tuple[tuple[Lease, ...], int]] = {}

    @property
    def open_runs(self) -> tuple[Known, ...]:
        return tuple(known for known in self.runs.values() if not known.status.is_final)

    def with_all_above(self, run_id: str) -> tuple[str, ...]:
        """The run, the one that started it, and so on."""
        above = self.runs[run_id].new.parent_run_id
        return (run_id,) if above is None else (run_id, *self.with_all_above(above))

    def is_suspect(self, run_id: str) -> bool:
        """Whether a claim of the run would be one of a run that lost its workers again and again."""
        known = self.runs[run_id]
        is_lost = known.is_running and known.until_ms <= self.now_ms()
        is_claimable = is_lost or known.status is Status.QUEUED
        return is_claimable and known.cancelled_ms is None and known.recoveries + is_lost >= SUSPECT_RECOVERIES

    def held_by(self, owner: str, *, besides: str) -> str | None:
        """A run that a worker holds and nobody has cancelled."""
        held = (known.run_id for known in self.runs.values() if known.is_running and known.owner == owner)
        return next((run_id for run_id in held if run_id != besides and self.runs[run_id].cancelled_ms is None), None)

    # --- commands that the store carried out

    def saw(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
        match name:
            case "create":
                self._created(arguments[0], answer)
            case "claim":
                self._claimed(named["owner"], named["claim_id"], named["lease_ms"], answer)
            case "renew":
                self._renewed(arguments[0], named["lease_ms"], answer)
            case "journal":
                self._journaled(*arguments[:3])
            case "commit":
                self._committed(arguments[0], arguments[1], answer)
            case "release":
                self._released(arguments[0], named.get("rest"), answer)
            case "answer":
                self._answered(self.runs[arguments[0]], arguments[1], answer)
            case "retry":
                self._retried(self.runs[arguments[0]], arguments[1])
            case "cancel":
                known = self.runs[arguments[0]]
                self._cancelled(known)
                self._cancelled_below(known)
            case _:
                self._told(name, arguments, answer)

    def _told(self, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """What people and programs outside say."""
        outside = self.outside
        match name:
            case "decide":
                outside.decided(self.runs[arguments[0]], arguments[1], answer)
            case "signal":
                outside.signalled(self.runs[arguments[0]], arguments[1], answer)
            case "steer":
                outside.steered(self.runs[arguments[0]], arguments[1])
            case "pause":
                outside.paused(self.runs[arguments[0]], answer)
            case "resume":
                outside.resumed(self.runs[arguments[0]], answer)
            case "pause_all":
                outside.pauses[arguments[0]] = answer
            case "resume_all":
                outside.pauses.pop(arguments[0], None)

    def _cancelled(self, known: Known) -> None:
        if known.cancelled_ms is None and not known.status.is_final:
            known.cancelled_ms = self.now_ms()
            # Also one that waits for an answer goes on, to end.
            known.status = known.status if known.is_running else Status.QUEUED
            self.outside.cancelled(known)
            self.figures.cancels += 1

    def _cancelled_below(self, known: Known) -> None:
        """Who is cancelled or ends takes along what it has started."""
        for child in known.children:
            if not child.status.is_final:
                self._cancelled(child)
                self._cancelled_below(child)

    def saw_refused(self, name: str, arguments: tuple[Any, ...], error: AgentQError) -> None:
        """Whoever holds a run may write, and a command that was carried out says so when it comes again."""
        if isinstance(error, SessionBusy) and name == "create" and not self.sessions.in_way(arguments[0]):
            self._blame(f"run {arguments[0].run_id} was refused, and nothing of its session goes on")
        if not isinstance(error, LeaseLost):
            return
        lease: Lease = arguments[0]
        known = self.runs[lease.run_id]
        if self._is_current(lease):
            if self.outside.may_be_set_aside(known):
                self.outside.set_aside(known)
                return
            self.wrong(known, f"{name} by the worker that holds the run was refused: {error}")
            return
        is_done = (name == "commit" and lease.fence in known.commits) or (
            name == "release" and lease.fence in known.handed_back
        )
        if is_done and known.fence == lease.fence:
            self.wrong(known, f"a {name} that was sent again looks like a lost lease")

    def _created(self, new: NewRun, answer: Created) -> None:
        if answer.existed:
            if answer.run_id not in self.runs:
                self._blame(f"create answered with run {answer.run_id}, which was never stored")
            return
        if new.run_id in self.runs:
            self._blame(f"run {new.run_id} was stored twice")
        if new.idempotency_key is not None:
            if new.idempotency_key in self.keys:
                self._blame(f"key {new.idempotency_key} made a second run {new.run_id}")
            self.keys[new.idempotency_key] = new.run_id
        known = Known(new.run_id, new, self.now_ms() + new.delay_ms)
        known.message_count = len(new.messages)
        self.runs[new.run_id] = known
        for other in self.sessions.make_way(new):
            self._cancelled(other)
            self._cancelled_below(other)
            self.figures.replaced += 1
        if new.parent_run_id is not None:
            self._started_by(self.runs[new.parent_run_id], known)
        if not new.delay_ms:
            self.sessions.enter(known)
        self.figures.runs += 1
        self.on_created(new.run_id)

    def _started_by(self, parent: Known, child: Known) -> None:
        if parent.status.is_final or parent.cancelled_ms is not None:
            self.wrong(parent, f"it has {parent.status} or was cancelled, and run {child.run_id} was started for it")
        if any(other.new.prompt == child.new.prompt for other in parent.children):
            self.wrong(parent, f"one of its calls started a second run {child.run_id}")
        parent.children.append(child)
        self.figures.children += 1

    def before_claim(self, run_ids: Sequence[str]) -> None:
        """A run that was delayed takes its place in its session when it is first asked for after that."""
        for run_id in run_ids:
            known = self.runs.get(run_id)
            if known is None or known.status is not Status.QUEUED or known.cancelled_ms is not None:
                continue
            if known.enters_ms <= self.now_ms() and self.outside.scope_of(known) is None:
                self.sessions.enter(known)

    def _claimed(self, owner: str, claim_id: str, lease_ms: int, claims: tuple[Claim, ...]) -> None:
        earlier, until_ms = self._claims.get((owner, claim_id), ((), 0))
        # A store remembers a claim for as long as its leases last.
        if until_ms > self.now_ms():
            given = [claim.lease for claim in claims]
            if given != [lease for lease in earlier if self._is_current(lease)]:
                self._blame(f"the same claim again gave other leases: {given}, at first {list(earlier)}")
            return
        if claims:
            self._claims[owner, claim_id] = (tuple(claim.lease for claim in claims), self.now_ms() + lease_ms)
        for claim in claims:
            self._took(claim, owner, lease_ms)

    def _is_current(self, lease: Lease) -> bool:
        known = self.runs[lease.run_id]
        return known.is_running and known.fence == lease.fence

    def _took(self, claim: Claim, owner: str, lease_ms: int) -> None:
        known, now_ms = self.runs[claim.lease.run_id], self.now_ms()
        if claim.lease.fence <= known.fence:
            self.wrong(known, f"fence {claim.lease.fence} was given after fence {known.fence}")
        if known.status.is_final:
            self.wrong(known, f"it was claimed although it has {known.status}")
        if known.is_running:
            if known.until_ms > now_ms:
                self.wrong(known, f"{owner} took it while {known.owner} held a live lease")
            known.took.append(claim.lease.fence)
            known.recoveries += 1
            self.figures.takeovers += 1
        if known.enters_ms > now_ms and known.cancelled_ms is None:
            self.wrong(known, f"it was claimed {known.enters_ms - now_ms} ms before its time")
        if claim.run.recoveries != known.recoveries:
            self.wrong(
                known, f"{known.recoveries} recoveries since its last commit, and it says {claim.run.recoveries}"
            )
        self.outside.check_may_go_on(known)
        self._check_place(known)
        known.lease_ms = lease_ms
        known.fence, known.owner, known.until_ms = claim.lease.fence, owner, now_ms + lease_ms
        known.status, known.batch, known.may_rest = Status.RUNNING, 0, False
        self.outside.check_seen(known, [message.text for message in claim.messages[known.message_count :]])
        known.message_count = len(claim.messages)
        if known.cancelled_ms is None:
            self.sessions.check_turn(known, claim)

    def _check_place(self, known: Known) -> None:
        """No more runs with a concurrency key go on at the same time than that."""
        key, most = known.new.concurrency_key, known.new.concurrency
        if key is None or known.cancelled_ms is not None:
            return
        others = [
            other.run_id
            for other in self.runs.values()
            if other is not known
            and other.is_running
            and other.new.concurrency_key == key
            and other.cancelled_ms is None
        ]
        if len(others) >= most:
            self.wrong(known, f"it was claimed while {others} went on with its key {key}")

    def _renewed(self, leases: Sequence[Lease], lease_ms: int, answers: Sequence[Renewal]) -> None:
        for lease, answer in zip(leases, answers, strict=True):
            known = self.runs[lease.run_id]
            is_current = self._is_current(lease)
            if is_current and not answer.held and self.outside.may_be_set_aside(known):
                self.outside.set_aside(known)
                is_current = False
            if answer.held != is_current:
                self.wrong(known, f"a renewal of fence {lease.fence} says held={answer.held}")
            if is_current:
                known.until_ms = self.now_ms() + lease_ms

    def _holds(self, lease: Lease, what: str) -> Known:
        known = self.runs[lease.run_id]
        if not self._is_current(lease):
            holder = f"held by {known.owner} with fence {known.fence}" if known.is_running else known.status
            self.wrong(known, f"{what} of {lease.owner} with fence {lease.fence} was taken; the run is {holder}")
        return known

    def _journaled(self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch) -> None:
        known = self._holds(lease, "a write")
        if batch.number <= known.batch:
            return
        known.batch = batch.number
        steps = read_steps({record.name: record.value for record in records})
        if steps.reply is not None:
            if known.reply_is_journaled:
                self.wrong(known, "a second reply was journaled in one iteration")
            known.reply_is_journaled, known.journaled_text = True, steps.reply.text
            known.calls = steps.reply.tool_calls
        for call_id, step in steps.calls.items():
            self._stepped(known, call_id, step)
        for record in records:
            if PART in record.name:
                self.outside.kept(known, record)

    def _stepped(self, known: Known, call_id: str, step: CallStep) -> None:
        if step.verdict is not None:
            known.did_not_happen[call_id] += step.verdict == "did_not_happen"
        elif step.result is None and step.waits is not None and not step.withdrawn:
            self.outside.rested(known, call_id, step)
        elif step.result is None:
            self._announced(known, call_id, step)
        elif call_id in known.finished:
            self.wrong(known, f"{call_id} finished a second time")
        else:
            known.finished[call_id] = step
            known.unwritten.pop(call_id, None)

    def _announced(self, known: Known, call_id: str, step: CallStep) -> None:
        if call_id in known.finished:
            self.wrong(known, f"{call_id} was announced again although it had finished")
        if known.cancelled_ms is not None and not step.withdrawn and known.announced.get(call_id) != step:
            self.wrong(known, f"{call_id} was announced after the cancel")
        known.announced[call_id] = step
        known.announced_ms[call_id] = self.now_ms()
        self.on_announced(known.run_id)

    def _committed(self, lease: Lease, commit: Commit, answer: Committed) -> None:
        if (earlier := self.runs[lease.run_id].commits.get(lease.fence)) is not None:
            if answer != earlier:
                self.wrong(self.runs[lease.run_id], f"a commit sent again answered {answer}, at first {earlier}")
            return
        known = self._holds(lease, "a commit")
        known.commits[lease.fence] = answer
        known.message_count += len(commit.messages)
        if commit.messages:
            known.last_text = commit.messages[-1].text
        else:
            known.bare_commits += 1
        if answer.status is Status.COMPLETED and known.inbox:
            self.wrong(known, f"it has completed without having seen {known.inbox}")
        if (answer.status is Status.PAUSED or answer.status.is_final) and known.is_paused != (
            not answer.status.is_final
        ):
            self.wrong(known, f"a commit left it {answer.status}, and that it is paused is {known.is_paused}")
        if answer.status.is_final and answer.status is not Status.CANCELLED and known.cancelled_ms is not None:
            self.wrong(known, f"it has {answer.status} although it was cancelled before")
        known.status = answer.status
        known.recoveries = known.recoveries if answer.status.is_final or not commit.messages else 0
        if commit.messages:
            known.reply_is_journaled, known.journaled_text = False, ""
        self.figures.iterations += 1
        if answer.status.is_final:
            self._cancelled_below(known)
        self._told_parent(known, answer)
        if answer.status.is_final:
            self.sessions.remember(known)

    def _told_parent(self, known: Known, answer: Committed) -> None:
        """The end of a run is what the run that started it waits for."""
        parent = self.runs.get(known.new.parent_run_id or "")
        if parent is not None and parent.is_waiting_for_child and 0 < parent.rests_until_ms <= self.now_ms():
            # It may have been woken for its time was over; a sweep does not say so.
            parent.status = Status.QUEUED if answer.parent_run_id is None else parent.status
        is_awaited = answer.status.is_final and parent is not None and parent.is_waiting_for_child
        if (answer.parent_run_id is not None) != is_awaited:
            self.wrong(known, f"its end was {'' if is_awaited else 'not '}to wake the run that started it")
        elif is_awaited and parent is not None:
            parent.status = Status.PAUSED if parent.is_paused else Status.QUEUED

    def _released(self, lease: Lease, rest: Rest | None, answer: Released) -> None:
        if lease.fence in self.runs[lease.run_id].handed_back:
            return
        known = self._holds(lease, "a release")
        known.status = answer.status
        known.handed_back.append(lease.fence)
        known.rests_until_ms = 0 if rest is None or not rest.within_ms else self.now_ms() + rest.within_ms
        known.waits_for_child = rest is not None and any(question.kind == CHILD for question in rest.questions)
        if known.is_waiting_for_child and rest is not None:
            for question in rest.questions:
                if question.kind == CHILD and self.runs[question.run_id or ""].status.is_final:
                    self.wrong(known, f"it waits for run {question.run_id}, which has ended")
        if answer.status is Status.WAITING and not known.is_waiting_for_child:
            self.figures.questions += 1
            self.on_waiting(known.run_id)
        elif answer.status is not Status.WAITING:
            self.figures.hand_overs += 1

    def _answered(self, known: Known, given: Answer, answer: Released) -> None:
        """A person has said what became of a call. Again it answers the same, and changes nothing."""
        if known.status is not Status.WAITING or known.fence != given.fence:
            return
        known.status = answer.status
        for call_id, step in read_steps({given.record.name: given.record.value}).calls.items():
            self._stepped(known, call_id, step)

    def _retried(self, known: Known, given: Retry) -> None:
        if not known.status.is_final or known.fence != given.fence:
            return
        known.status, known.recoveries, known.cancelled_ms = Status.QUEUED, 0, None
        known.is_paused = False
        known.retries += 1
        known.message_count += len(given.messages)
        self.figures.retries += 1

    def wrong(self, known: Known, what: str) -> None:
        """Blame a run."""
        self._blame(f"run {known.run_id}: {what}")
