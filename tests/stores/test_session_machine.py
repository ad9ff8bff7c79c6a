"""Sessions against plain Python: whatever happens to their runs in whatever order, the line and the past agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from agentq._ids import new_token
from agentq.errors import LeaseLost, RunAlreadyFinished, SessionBusy, SessionNotFound
from agentq.runs import WHEN_BUSY, Status, WhenBusy
from agentq.stores.base import Claim, Commit, Committed, EventBatch
from agentq.testing._contract import commit_of, new_run, reply_message
from tests.stores.machines import StoreMachine, in_memory, on_fakeredis, on_redis, play

if TYPE_CHECKING:
    from tests.stores.machines import Make

# Whole ticks, far apart: the time that a test takes decides nothing.
TICK_S = 20
LEASE_MS = 3 * TICK_S * 1000
TTL_MS = 1_000_000_000
picks = st.integers(0, 1_000)
names = st.sampled_from(("a", "b"))
policies: st.SearchStrategy[WhenBusy] = st.sampled_from(("queue", "queue", *WHEN_BUSY))
STOP = ("interrupt", "replace")
FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass
class Run:
    """A run as the model knows it. Times are ticks; `said` are its own messages."""

    run_id: str
    session: str
    not_before: int
    said: list[str]
    status: Status = Status.QUEUED
    has_entered: bool = False
    past: int | None = None
    lease_until: int = 0
    is_cancelled: bool = False
    forgets: bool = False


@dataclass
class Session:
    """The conversation as the model knows it."""

    live: Run | None = None
    line: list[Run] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    runs: int = 0
    open: int = 0

    def enter(self, run: Run) -> None:
        run.has_entered = True
        self.line.append(run)
        if self.live is None:
            self.promote()

    def make_way(self, *, forgets: bool) -> list[Run]:
        """The runs that are asked to stop; those in line leave it."""
        stopped = [self.live, *self.line] if self.live is not None else list(self.line)
        if self.live is not None:
            self.live.forgets = self.live.forgets or forgets
        for run in stopped:
            run.is_cancelled = True
        self.line = []
        return stopped

    def promote(self) -> None:
        self.live = self.line.pop(0) if self.line else None
        if self.live is not None:
            self.live.past = len(self.said)

    def leave(self, run: Run, *, remembers: bool) -> Run | None:
        self.open -= 1
        if self.live is not run:
            if run in self.line:
                self.line.remove(run)
            return None
        self.said += run.said if remembers and not run.forgets else []
        self.promote()
        return self.live


class SessionMachine(StoreMachine):
    """Runs of two sessions are created, put off, claimed, handed back, lost, ended and cancelled."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.runs: dict[str, Run] = {}
        self.sessions: dict[str, Session] = {"a": Session(), "b": Session()}
        self.held: dict[str, Claim] = {}
        self.ended: list[tuple[Claim, Commit, Committed]] = []

    def teardown(self) -> None:
        self.everything_ends()
        super().teardown()

    def may_start(self, run: Run) -> bool:
        """Whether a claim takes the run. One that was put off takes its place now."""
        if run.status is Status.RUNNING:
            return run.lease_until <= self.now
        if run.status is not Status.QUEUED:
            return False
        if run.is_cancelled:
            return True
        if run.not_before > self.now:
            return False
        session = self.sessions[run.session]
        if not run.has_entered:
            session.enter(run)
        return session.live is run

    def is_held(self, run: Run) -> bool:
        return run.status is Status.RUNNING and run.lease_until > self.now

    # --- rules

    @initialize()
    def first_runs(self) -> None:
        for name, delay in (("a", 0), ("a", 0), ("b", 2), ("b", 0)):
            self.create(name, delay, "queue")

    @precondition(lambda self: len(self.runs) < 12)
    @rule(name=names, delay=st.sampled_from((0, 0, 0, 2)), when_busy=policies)
    def create(self, name: str, delay: int, when_busy: WhenBusy) -> None:
        prompt = f"prompt {len(self.runs)}"
        when_busy = "queue" if delay else when_busy
        new = new_run(prompt, session_id=name, delay_ms=delay * TICK_S * 1000, when_busy=when_busy)
        try:
            created = self.do(self.store.create(new))
        except SessionBusy:
            assert when_busy == "reject"
            assert self.sessions[name].live is not None
            return
        assert when_busy != "reject" or self.sessions[name].live is None
        stopped = self.sessions[name].make_way(forgets=when_busy == "replace") if when_busy in STOP else []
        unheld = [run.run_id for run in stopped if not self.is_held(run)]
        assert list(created.stopped) == unheld
        run = self.runs[new.run_id] = Run(new.run_id, name, self.now + delay if delay else 0, [prompt])
        session = self.sessions[name]
        session.runs += 1
        session.open += 1
        if not delay:
            session.enter(run)

    @rule(order=st.randoms(use_true_random=False), owner=st.sampled_from(("worker-1", "worker-2")))
    def claim(self, order: Any, owner: str) -> None:
        wanted = list(self.runs)
        order.shuffle(wanted)
        claims = self.do(self.store.claim(wanted, owner=owner, claim_id=new_token(), lease_ms=LEASE_MS))
        # One at a time and in order, as the store goes through them: the claim of one changes who is next.
        expected = []
        for run_id in wanted:
            run = self.runs[run_id]
            if self.may_start(run):
                run.status, run.lease_until = Status.RUNNING, self.now + 3
                run.not_before = 0
                expected.append(run_id)
        assert [claim.lease.run_id for claim in claims] == expected
        for claim in claims:
            run = self.runs[claim.lease.run_id]
            session = self.sessions[run.session]
            assert [message.text for message in claim.history] == session.said[: run.past or 0]
            assert [message.text for message in claim.messages] == run.said
            self.held[run.run_id] = claim

    @precondition(lambda self: self.held)
    @rule(pick=picks, status=st.sampled_from((Status.QUEUED, *FINAL)), remembers=st.sampled_from((True, True, False)))
    def commit(self, pick: int, status: Status, remembers: bool) -> None:
        claim = self.held.pop(list(self.held)[pick % len(self.held)])
        run = self.runs[claim.lease.run_id]
        answer = f"answer {len(run.said)}"
        commit = commit_of(
            claim, status, messages=(reply_message(answer),), remembers=remembers, signals_seen=99, ttl_ms=TTL_MS
        )
        committed = self.do(self.store.commit(claim.lease, commit))
        run.said.append(answer)
        run.status = status
        comes_next: Run | None = run
        if status in FINAL:
            comes_next = self.sessions[run.session].leave(run, remembers=remembers)
            self.ended.append((claim, commit, committed))
        assert committed.next_run_id == (comes_next and comes_next.run_id)

    @precondition(lambda self: self.ended)
    @rule(pick=picks)
    def commit_again(self, pick: int) -> None:
        """The reply was lost, and the last commit of a run comes once more, however late."""
        claim, commit, committed = self.ended[pick % len(self.ended)]
        assert self.do(self.store.commit(claim.lease, commit)) == committed

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        claim = self.held.pop(list(self.held)[pick % len(self.held)])
        self.do(self.store.release(claim.lease, EventBatch(1)))
        self.runs[claim.lease.run_id].status = Status.QUEUED

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        run = self.runs[list(self.runs)[pick % len(self.runs)]]
        try:
            self.do(self.store.cancel(run.run_id))
        except RunAlreadyFinished:
            assert run.status in FINAL
        else:
            run.is_cancelled = True

    @rule(ticks=st.sampled_from((1, 1, 3)))
    def pass_time(self, ticks: int) -> None:
        """Workers whose lease has run out meanwhile are taken for lost: they write nothing more here."""
        self.do(self.backend.pass_time(ticks * TICK_S))
        self.now += ticks
        for run_id in [run_id for run_id in self.held if self.runs[run_id].lease_until <= self.now]:
            del self.held[run_id]

    @rule()
    def sweep(self) -> None:
        """It wakes no run that stands in line, unless that was cancelled."""
        swept = self.do(self.store.sweep(lease_ms=LEASE_MS))
        for run_id in swept.to_wake:
            run = self.runs[run_id]
            session = self.sessions[run.session]
            assert run.is_cancelled or not run.has_entered or session.live is run

    def everything_ends(self) -> None:
        """Promise P1: sweeps find a run to go on with until every one has ended, in order within its session."""
        for _ in range(6 * len(self.runs) + 20):
            self.pass_time(1)
            for run_id in self.do(self.store.sweep(lease_ms=LEASE_MS)).to_wake:
                self._end(run_id)
        left = [run_id for run_id, run in self.runs.items() if run.status not in FINAL]
        assert left == []
        for session in self.sessions.values():
            assert (session.live, session.line, session.open) == (None, [], 0)

    def _end(self, run_id: str) -> None:
        claims = self.do(self.store.claim([run_id], owner="last", claim_id=new_token(), lease_ms=LEASE_MS))
        run = self.runs[run_id]
        assert len(claims) == self.may_start(run)
        for claim in claims:
            run.status, run.lease_until = Status.RUNNING, self.now + 3
            self.held = {run_id: claim}
            self.commit(0, Status.CANCELLED if run.is_cancelled else Status.COMPLETED, True)

    # --- what must hold

    @invariant()
    def store_and_model_agree(self) -> None:
        for name, session in self.sessions.items():
            if not session.runs:
                continue
            try:
                state = self.do(self.store.session(name))
            except SessionNotFound:
                raise AssertionError(f"session {name} is gone") from None
            assert state.live_run_id == (session.live and session.live.run_id)
            assert (state.run_count, state.open_runs) == (session.runs, session.open)
            assert state.message_count == len(session.said)
            assert [message.text for message in self.do(self.store.session_messages(name))] == session.said
            for run in session.line:
                assert self.do(self.store.read(run.run_id)).waits_for_session
        for run_id, claim in self.held.items():
            renewed = self.do(self.store.renew([claim.lease], lease_ms=LEASE_MS))
            assert renewed[0].held, run_id
            self.runs[run_id].lease_until = self.now + 3

    @precondition(lambda self: self.ended)
    @rule(pick=picks)
    def write_too_late(self, pick: int) -> None:
        """A worker of a run that has ended writes nothing more."""
        claim, _, _ = self.ended[pick % len(self.ended)]
        try:
            self.do(self.store.journal(claim.lease, [], EventBatch(7)))
        except LeaseLost:
            return
        raise AssertionError("a run that has ended was written to")


def test_sessions_in_memory():
    play(SessionMachine, in_memory, examples=100, steps=40)


def test_sessions_on_fakeredis():
    play(SessionMachine, on_fakeredis, examples=20, steps=40)


def test_sessions_on_redis(redis_url: str):
    play(SessionMachine, on_redis(redis_url), examples=30, steps=40)
