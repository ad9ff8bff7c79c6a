"""The lease scripts against plain Python: whatever is called in whatever order, store and model agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from agentq._ids import new_run_id, new_token
from agentq.errors import CancelRequested, IllegalTransition, LeaseLost, RunAlreadyFinished, RunNotFound
from agentq.events.fold import ranges
from agentq.events.model import IterationFinished, RunCompleted, TextDelta, ToolProgress
from agentq.runs import TRANSITIONS, RunState, Status
from agentq.stores.base import Appended, Claim, Commit, Committed, EventBatch, NewRun, StepRecord
from agentq.testing._contract import completed, events_of, new_run, reply_message
from tests.stores.machines import StoreMachine, in_memory, on_fakeredis, on_redis, play

if TYPE_CHECKING:
    from tests.stores.machines import Make

# Everything happens at whole ticks, far apart, so that the time that a test takes decides nothing.
TICK_S = 20
LEASE_MS = 3 * TICK_S * 1000
TTL_MS = 5 * TICK_S * 1000
OWNERS = ("worker-1", "worker-2")
picks = st.integers(0, 1_000)


@dataclass
class Run:
    """A run as the model knows it. Times are ticks."""

    new: NewRun
    not_before: int
    status: Status = Status.QUEUED
    fence: int = 0
    owner: str | None = None
    lease_until: int = 0
    iteration: int = 0
    recoveries: int = 0
    signals: int = 0
    cancel_reason: str | None = None
    seq: int = 1
    messages: int = 1
    expires: int | None = None
    journal: dict[str, bytes] = field(default_factory=dict)
    open: list[TextDelta] = field(default_factory=list)
    committed: dict[int, Committed] = field(default_factory=dict)
    released: set[int] = field(default_factory=set)

    def is_claimable(self, now: int) -> bool:
        if self.status is Status.QUEUED:
            return self.not_before <= now or self.cancel_reason is not None
        return self.status is Status.RUNNING and self.lease_until <= now


@dataclass
class Held:
    """A claim that some worker believes in, stale or not, and the batches it has sent."""

    claim: Claim
    sent: list[tuple[tuple[StepRecord, ...], EventBatch, Appended]] = field(default_factory=list)
    numbers: int = 0
    last: Commit | None = None

    @property
    def run_id(self) -> str:
        return self.claim.lease.run_id

    @property
    def fence(self) -> int:
        return self.claim.lease.fence


class LeaseMachine(StoreMachine):
    """Workers claim, write and hand back two runs in every order; some of them live in the past."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.known: dict[str, Run] = {}
        self.gone: list[str] = []
        self.held: list[Held] = []
        self.last_claim: dict[str, tuple[str, list[str], int]] = {}

    def refused(self, work: Any, *errors: type[Exception]) -> None:
        """The call is refused; that it changed nothing shows at the next comparison."""
        try:
            answer = self.do(work)
        except errors:
            return
        raise AssertionError(f"it was accepted, with {answer}, and {errors} was expected")

    def teardown(self) -> None:
        self.everything_comes_back()
        for run_id in self.known:
            events = self.do(events_of(self.backend.stream, run_id))
            assert all(event.type != "gap" for event in events)
            assert [event.seq for event in events] == sorted({event.seq for event in events})
        super().teardown()

    def run_of(self, held: Held) -> Run | None:
        return self.known.get(held.run_id)

    def is_current(self, held: Held) -> bool:
        run = self.run_of(held)
        return run is not None and run.status is Status.RUNNING and run.fence == held.fence

    def held_by(self, pick: int) -> Held:
        """One of the claims that were ever made; three times out of four one that is current, if there is any."""
        current = [held for held in self.held if self.is_current(held)] if pick % 4 else []
        return (pool := current or self.held)[pick // 4 % len(pool)]

    def some_run(self, pick: int) -> str:
        """One of the runs, also of those that are gone."""
        return (pool := [*self.known, *self.gone])[pick % len(pool)]

    # --- rules

    @initialize()
    def first_runs(self) -> None:
        for delay in (0, 0, 2):
            self._create(delay)

    @precondition(lambda self: len(self.known) < 3)
    @rule(delay=st.sampled_from((0, 0, 2)))
    def create(self, delay: int) -> None:
        self._create(delay)

    def _create(self, delay: int) -> None:
        new = new_run(run_id=new_run_id(), delay_ms=delay * TICK_S * 1000)
        created = self.do(self.store.create(new))
        assert (created.run_id, created.existed) == (new.run_id, False)
        self.known[new.run_id] = Run(new, self.now + delay if delay else 0)

    @rule(pick=picks)
    def create_again(self, pick: int) -> None:
        run_id = self.some_run(pick)
        if run_id in self.known:
            again = self.do(self.store.create(self.known[run_id].new))
            assert (again.run_id, again.existed) == (run_id, True)

    @rule(wanted=st.lists(picks, min_size=1, max_size=3), owner=st.sampled_from(OWNERS))
    def claim(self, wanted: list[int], owner: str) -> None:
        self._claim(list(dict.fromkeys(map(self.some_run, wanted))), owner)

    @rule(owner=st.sampled_from(OWNERS))
    def claim_all(self, owner: str) -> None:
        self._claim(list(self.known), owner)

    def _claim(self, wanted: list[str], owner: str) -> None:
        claim_id = new_token()
        claims = self.do(self.store.claim(wanted, owner=owner, claim_id=claim_id, lease_ms=LEASE_MS))
        expected = [run_id for run_id in wanted if run_id in self.known and self.known[run_id].is_claimable(self.now)]
        assert [claim.lease.run_id for claim in claims] == expected
        for claim in claims:
            self._taken(self.known[claim.lease.run_id], claim, owner)
        if claims:
            self.last_claim[owner] = (claim_id, wanted, self.now)
        self.held += [Held(claim) for claim in claims]

    def _taken(self, run: Run, claim: Claim, owner: str) -> None:
        if run.status is Status.RUNNING:
            run.recoveries += 1
            run.seq += 2 if run.open else 1
            run.open = []
        elif run.fence == 0:
            run.seq += 1
        run.fence += 1
        run.status, run.owner, run.lease_until = Status.RUNNING, owner, self.now + 3
        assert (claim.lease.fence, claim.lease.owner) == (run.fence, owner)
        assert dict(claim.journal) == run.journal
        assert len(claim.messages) == run.messages
        assert claim.run.signals == run.signals

    @rule(owner=st.sampled_from(OWNERS))
    def claim_again(self, owner: str) -> None:
        """The reply was lost. What the worker holds of that claim is told again, and nothing is taken."""
        claim_id, wanted, at = self.last_claim.get(owner, ("", [], -9))
        if self.now - at < 3:
            claims = self.do(self.store.claim(wanted, owner=owner, claim_id=claim_id, lease_ms=LEASE_MS))
            for claim in claims:
                run = self.known[claim.lease.run_id]
                assert (run.status, run.fence) == (Status.RUNNING, claim.lease.fence)
                assert dict(claim.journal) == run.journal

    @precondition(lambda self: self.held)
    @rule(chosen=st.lists(picks, min_size=1, max_size=3))
    def renew(self, chosen: list[int]) -> None:
        held = [self.held_by(pick) for pick in chosen]
        renewals = self.do(self.store.renew([each.claim.lease for each in held], lease_ms=LEASE_MS))
        for each, renewal in zip(held, renewals, strict=True):
            run = self.run_of(each)
            assert (renewal.run_id, renewal.held) == (each.run_id, self.is_current(each))
            if run is not None:
                assert renewal.signals == run.signals
                assert renewal.cancel_requested == (run.cancel_reason is not None)
            if run is not None and renewal.held:
                run.lease_until = self.now + 3

    @precondition(lambda self: self.held)
    @rule(
        pick=picks,
        name=st.sampled_from(("reply", "call-1", "call-2")),
        value=st.sampled_from((b"1", b"2")),
        effect=st.booleans(),
        pieces=st.integers(0, 3),
        others=st.integers(0, 2),
    )
    def journal(self, pick: int, name: str, value: bytes, effect: bool, pieces: int, others: int) -> None:
        held = self.held_by(pick)
        record = StepRecord(name, value, starts_effect=effect)
        deltas = tuple(TextDelta(text="x" * (size + 1)) for size in range(pieces))
        progress = tuple(ToolProgress(call_id="c", name="roll_dice") for _ in range(others))
        batch = EventBatch(held.numbers + 1, deltas + progress)
        work = self.store.journal(held.claim.lease, [record], batch)
        run = self.run_of(held)
        if run is None:
            self.refused(work, RunNotFound)
        elif not self.is_current(held):
            self.refused(work, LeaseLost)
        elif effect and run.cancel_reason is not None and run.journal.get(name) != value:
            self.refused(work, CancelRequested)
        else:
            appended = self.do(work)
            first = run.seq + 1
            run.seq += len(batch.events)
            assert appended.last_seq == run.seq
            run.journal[name] = value
            run.open += [
                delta.model_copy(update={"seq": seq, "run_id": held.run_id, "at_ms": appended.at_ms})
                for seq, delta in enumerate(deltas, start=first)
            ]
            held.numbers += 1
            held.sent.append(((record,), batch, appended))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def journal_again(self, pick: int) -> None:
        """The last batch once more."""
        held = self.held_by(pick)
        if held.sent:
            records, batch, answer = held.sent[-1]
            work = self.store.journal(held.claim.lease, records, batch)
            if self.is_current(held) and batch.number == held.numbers:
                assert self.do(work) == answer
            elif not self.is_current(held):
                self.refused(work, LeaseLost, RunNotFound)
            else:
                work.close()

    @precondition(lambda self: self.held)
    @rule(
        pick=picks,
        status=st.sampled_from(sorted(TRANSITIONS[Status.RUNNING])),
        speaks=st.booleans(),
        saw_signals=st.booleans(),
        delay=st.sampled_from((0, 0, 2)),
    )
    def commit(self, pick: int, status: Status, speaks: bool, saw_signals: bool, delay: int) -> None:
        held = self.held_by(pick)
        run = self.run_of(held)
        deltas = run.open if run is not None and self.is_current(held) else []
        folding = (completed(deltas),) if deltas else ()
        commit = Commit(
            status=status,
            messages=(reply_message("16"),) if speaks else (),
            batch=EventBatch(held.numbers + 1, (*folding, IterationFinished(iteration=1)), ranges(deltas)),
            iteration=held.claim.run.iteration + 1,
            turn=0,
            errors=0,
            usage={},
            signals_seen=run.signals if run is not None and saw_signals else held.claim.run.signals,
            closing=(RunCompleted(output="16"),) if status.is_final else (),
            delay_ms=delay * TICK_S * 1000 if status is Status.QUEUED else 0,
            ttl_ms=TTL_MS if status.is_final else 0,
        )
        work = self.store.commit(held.claim.lease, commit)
        if run is None:
            self.refused(work, RunNotFound)
        elif max(run.committed, default=0) == held.fence:
            assert self.do(work) == run.committed[held.fence]
        elif not self.is_current(held):
            self.refused(work, LeaseLost)
        else:
            self._committed(run, held, commit, self.do(work))

    def _committed(self, run: Run, held: Held, commit: Commit, answer: Committed) -> None:
        is_signalled = run.signals > commit.signals_seen
        run.status = Status.QUEUED if is_signalled else commit.status
        run.seq += len(commit.batch.events) + (0 if is_signalled else len(commit.closing))
        goes_on = held.run_id if run.status is Status.QUEUED else None
        assert answer == Committed(run.status, run.seq, woken=answer.woken, next_run_id=goes_on)
        run.open = []
        run.messages += len(commit.messages)
        if commit.messages:
            run.journal = {}
        delay = 0 if is_signalled else commit.delay_ms // (TICK_S * 1000)
        run.not_before = self.now + delay if delay else 0
        run.iteration = commit.iteration
        is_kept = is_signalled and commit.status.is_final and not commit.messages
        run.owner, run.recoveries = None, run.recoveries if is_kept else 0
        run.expires = self.now + 5 if run.status.is_final else None
        run.committed[held.fence] = answer

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def commit_to_running(self, pick: int) -> None:
        held = self.held_by(pick)
        if self.is_current(held):
            commit = Commit(Status.RUNNING, (), EventBatch(99), 1, 1, 0, {}, 0)
            self.refused(self.store.commit(held.claim.lease, commit), IllegalTransition)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        held = self.held_by(pick)
        run = self.run_of(held)
        work = self.store.release(
            held.claim.lease, EventBatch(held.numbers + 1, (ToolProgress(call_id="c", name="x"),))
        )
        if run is None:
            self.refused(work, RunNotFound)
        elif max(run.released, default=0) == held.fence:
            self.do(work)
        elif not self.is_current(held):
            self.refused(work, LeaseLost)
        else:
            self.do(work)
            run.seq += 2 if run.open else 1
            run.open = []
            run.released.add(held.fence)
            run.status, run.owner, run.not_before = Status.QUEUED, None, 0

    @rule(pick=picks, reason=st.sampled_from(("", "enough")))
    def cancel(self, pick: int, reason: str) -> None:
        run_id = self.some_run(pick)
        work = self.store.cancel(run_id, reason=reason)
        run = self.known.get(run_id)
        if run is None:
            self.refused(work, RunNotFound)
            return
        if run.status in (Status.COMPLETED, Status.FAILED):
            self.refused(work, RunAlreadyFinished)
            return
        answer = self.do(work)
        if run.status is not Status.CANCELLED and run.cancel_reason is None:
            run.cancel_reason = reason
            run.signals += 1
            run.seq += 1
            run.not_before = 0
            if run.status in (Status.WAITING, Status.PAUSED):
                run.status = Status.QUEUED
        held = run.status is Status.RUNNING and run.lease_until > self.now
        assert (answer.status, answer.held) == (run.status, held)

    @rule(ticks=st.sampled_from((1, 1, 1, 3)))
    def pass_time(self, ticks: int) -> None:
        self.do(self.backend.pass_time(ticks * TICK_S))
        self.now += ticks
        for run_id, run in list(self.known.items()):
            if run.expires is not None and run.expires <= self.now:
                self.gone.append(run_id)
                del self.known[run_id]

    @rule()
    def sweep(self) -> None:
        """It only wakes what can be claimed."""
        swept = self.do(self.store.sweep(lease_ms=LEASE_MS))
        assert all(self.known[run_id].is_claimable(self.now) for run_id in swept.to_wake)

    def everything_comes_back(self) -> None:
        """Promise P1: in the time of two leases sweeps find every run that can go on."""
        stuck = {run_id for run_id, run in self.known.items() if run.is_claimable(self.now)}
        found: set[str] = set()
        for _ in range(7):
            self.pass_time(1)
            found.update(self.do(self.store.sweep(lease_ms=LEASE_MS)).to_wake)
        assert stuck <= found

    # --- what must hold

    @invariant()
    def store_and_model_agree(self) -> None:
        for run_id, run in self.known.items():
            state: RunState = self.do(self.store.read(run_id))
            assert state.status is run.status
            assert (state.fence, state.owner, state.iteration) == (run.fence, run.owner, run.iteration)
            assert (state.recoveries, state.signals, state.cancel_reason) == (
                run.recoveries, run.signals, run.cancel_reason
            )  # fmt: skip
            assert (state.seq, state.message_count) == (run.seq, run.messages)
            assert (state.lease_until_ms > 0) == (run.status is Status.RUNNING)
            assert state.committed == max(run.committed, default=0)

    @invariant()
    def what_is_gone_is_gone(self) -> None:
        for run_id in self.gone:
            self.refused(self.store.read(run_id), RunNotFound)


def test_leases_in_memory():
    play(LeaseMachine, in_memory, examples=100, steps=60)


def test_leases_on_fakeredis():
    play(LeaseMachine, on_fakeredis, examples=30, steps=60)


def test_leases_on_redis(redis_url: str):
    play(LeaseMachine, on_redis(redis_url), examples=30, steps=60)
