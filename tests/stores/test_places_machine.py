"""Places of a concurrency key against plain Python: so many go on and no more, in order, and none is forgotten."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from agentq._ids import new_token
from agentq.errors import CancelRequested, RunAlreadyFinished
from agentq.limits import RunLimits
from agentq.runs import LIMIT, Question, Status
from agentq.stores.base import Claim, EventBatch, Rest, Retry
from agentq.testing._contract import commit_of, new_run, reply_message
from tests.stores.machines import StoreMachine, in_memory, on_fakeredis, on_redis, play

if TYPE_CHECKING:
    from tests.stores.machines import Make

TICK_S = 20
LEASE_MS = 3 * TICK_S * 1000
PLACES = 2
picks = st.integers(0, 1_000)
FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
GOES_ON = (Status.QUEUED, Status.RUNNING)
ASKED = Rest((Question("", "", "too much", LIMIT),), 99)


@dataclass
class Run:
    """A run as the model knows it."""

    run_id: str
    status: Status = Status.QUEUED
    was_claimed: bool = False
    is_gated: bool = False
    is_cancelled: bool = False
    lease_until: int = 0


class PlacesMachine(StoreMachine):
    """Runs with one key are created, claimed, handed back, put to rest, lost, paused, ended, cancelled and retried."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.runs: dict[str, Run] = {}
        self.taken: set[str] = set()
        self.line: list[str] = []
        self.held: dict[str, Claim] = {}
        self.limits = 0

    def teardown(self) -> None:
        self.everything_ends()
        super().teardown()

    # --- the model

    def may_start(self, run: Run) -> bool:
        """Whether a claim takes the run; else it may be in line now."""
        if run.status is Status.RUNNING:
            return run.lease_until <= self.now
        if run.status is not Status.QUEUED:
            return False
        if run.is_cancelled:
            if run.is_gated:
                self.line.remove(run.run_id)
                run.is_gated = False
            return True
        if run.is_gated:
            return False
        if run.run_id in self.taken:
            return True
        if len(self.taken) < PLACES:
            self.taken.add(run.run_id)
            return True
        run.is_gated = True
        self.line.insert(0 if run.was_claimed else len(self.line), run.run_id)
        return False

    def becomes(self, run: Run, status: Status) -> None:
        run.status = status
        if status in GOES_ON:
            return
        if run.is_gated:
            run.is_gated = False
            self.line.remove(run.run_id)
        self.taken.discard(run.run_id)
        while self.line and len(self.taken) < PLACES:
            first = self.runs[self.line.pop(0)]
            first.is_gated = False
            self.taken.add(first.run_id)

    def pick_held(self, pick: int) -> tuple[Claim, Run]:
        claim = self.held.pop(list(self.held)[pick % len(self.held)])
        return claim, self.runs[claim.lease.run_id]

    def pick(self, pick: int, *status: Status) -> Run | None:
        fit = [run for run in self.runs.values() if run.status in status]
        return fit[pick % len(fit)] if fit else None

    # --- rules

    @initialize()
    def first_runs(self) -> None:
        for _ in range(4):
            self.create()

    @precondition(lambda self: len(self.runs) < 10)
    @rule()
    def create(self) -> None:
        new = new_run("x", concurrency_key="tenant-7", concurrency=PLACES)
        self.do(self.store.create(new))
        self.runs[new.run_id] = Run(new.run_id)

    @rule(order=st.randoms(use_true_random=False), count=st.integers(1, 10))
    def claim(self, order: Any, count: int) -> None:
        wanted = list(self.runs)
        order.shuffle(wanted)
        wanted = wanted[:count]
        claims = self.do(self.store.claim(wanted, owner="worker-1", claim_id=new_token(), lease_ms=LEASE_MS))
        expected = []
        for run_id in wanted:
            run = self.runs[run_id]
            if self.may_start(run):
                run.status, run.lease_until, run.was_claimed = Status.RUNNING, self.now + 3, True
                expected.append(run_id)
        assert [claim.lease.run_id for claim in claims] == expected
        self.held |= {claim.lease.run_id: claim for claim in claims}

    @precondition(lambda self: self.held)
    @rule(pick=picks, status=st.sampled_from((Status.QUEUED, *FINAL)))
    def commit(self, pick: int, status: Status) -> None:
        claim, run = self.pick_held(pick)
        self.do(
            self.store.commit(
                claim.lease, commit_of(claim, status, reply_message("a"), signals_seen=99, ttl_ms=1_000_000_000)
            )
        )
        self.becomes(run, status)

    @precondition(lambda self: self.held)
    @rule(pick=picks, rests=st.booleans())
    def release(self, pick: int, rests: bool) -> None:
        claim, run = self.pick_held(pick)
        rests = rests and not run.is_cancelled
        self.do(self.store.release(claim.lease, EventBatch(1), rest=ASKED if rests else None))
        self.becomes(run, Status.WAITING if rests else Status.QUEUED)

    @rule(pick=picks)
    def go_on(self, pick: int) -> None:
        run = self.pick(pick, Status.WAITING)
        if run is not None:
            self.limits += 1
            self.do(self.store.set_limits(run.run_id, RunLimits(tokens=self.limits)))
            self.becomes(run, Status.QUEUED)

    @rule(pick=picks)
    def pause_and_resume(self, pick: int) -> None:
        run = self.pick(pick, Status.QUEUED)
        if run is None:
            return
        try:
            self.do(self.store.pause(run.run_id))
        except CancelRequested:
            assert run.is_cancelled
            return
        self.becomes(run, Status.PAUSED)
        self.do(self.store.resume(run.run_id))
        self.becomes(run, Status.QUEUED)

    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        run = self.pick(pick, Status.FAILED)
        if run is not None:
            self.do(self.store.retry(run.run_id, Retry(self.do(self.store.read(run.run_id)).fence)))
            run.status, run.is_cancelled = Status.QUEUED, False

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        run = self.runs[list(self.runs)[pick % len(self.runs)]]
        try:
            self.do(self.store.cancel(run.run_id))
        except RunAlreadyFinished:
            assert run.status in FINAL
            return
        if run.status is Status.WAITING:
            self.becomes(run, Status.QUEUED)
        run.is_cancelled = run.status not in FINAL

    @rule(ticks=st.sampled_from((1, 1, 3)))
    def pass_time(self, ticks: int) -> None:
        self.do(self.backend.pass_time(ticks * TICK_S))
        self.now += ticks
        for run_id in [run_id for run_id in self.held if self.runs[run_id].lease_until <= self.now]:
            del self.held[run_id]

    @rule()
    def sweep(self) -> None:
        """It wakes no run that stands in line, unless that was cancelled."""
        for run_id in self.do(self.store.sweep(lease_ms=LEASE_MS)).to_wake:
            assert not self.runs[run_id].is_gated or self.runs[run_id].is_cancelled

    def everything_ends(self) -> None:
        """Promise P1: sweeps find a run to go on with until every one has ended."""
        for run in self.runs.values():
            if run.status is Status.WAITING:
                self.limits += 1
                self.do(self.store.set_limits(run.run_id, RunLimits(tokens=self.limits)))
                self.becomes(run, Status.QUEUED)
        for _ in range(6 * len(self.runs) + 20):
            self.pass_time(1)
            for run_id in self.do(self.store.sweep(lease_ms=LEASE_MS)).to_wake:
                run = self.runs[run_id]
                claims = self.do(self.store.claim([run_id], owner="last", claim_id=new_token(), lease_ms=LEASE_MS))
                before = dataclasses.replace(run), self.now, len(self.taken), list(self.line)
                assert len(claims) == self.may_start(run), before
                for claim in claims:
                    run.status = Status.RUNNING
                    self.held = {run_id: claim}
                    self.commit(0, Status.CANCELLED if run.is_cancelled else Status.COMPLETED)
        assert [run_id for run_id, run in self.runs.items() if run.status not in FINAL] == []
        assert (self.taken, self.line) == (set(), [])

    # --- what must hold

    @invariant()
    def store_and_model_agree(self) -> None:
        assert len(self.taken) <= PLACES
        states = {run_id: self.do(self.store.read(run_id)) for run_id in self.runs}
        for run_id, run in self.runs.items():
            assert (states[run_id].status, states[run_id].waits_for_place) == (run.status, run.is_gated), run_id
        at_work = [run_id for run_id, run in self.runs.items() if run.status is Status.RUNNING and not run.is_cancelled]
        assert len(at_work) <= PLACES
        for run_id, claim in self.held.items():
            assert self.do(self.store.renew([claim.lease], lease_ms=LEASE_MS))[0].held
            self.runs[run_id].lease_until = self.now + 3


def test_places_in_memory():
    play(PlacesMachine, in_memory, examples=100, steps=40)


def test_places_on_fakeredis():
    play(PlacesMachine, on_fakeredis, examples=20, steps=40)


def test_places_on_redis(redis_url: str):
    play(PlacesMachine, on_redis(redis_url), examples=30, steps=40)
