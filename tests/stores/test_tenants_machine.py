"""Tenants: clients and workers of all kinds at one queue. It stays fair, and no run is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from agentq._ids import new_token
from agentq.errors import CancelRequested, LeaseLost, RunAlreadyFinished, RunNotFound
from agentq.executors.queue import QueueExecutor
from agentq.limits import RunLimits
from agentq.runs import LIMIT, PRIORITIES, Question, RunState, Status
from agentq.stores.base import Claim, EventBatch, Rest, Retry
from agentq.stores.redis import RedisStore
from agentq.testing._contract import commit_of, new_run, reply_message
from tests.stores.machines import StoreMachine, on_fakeredis, on_redis, play
from tests.stores.tenant_parts import old_script

if TYPE_CHECKING:
    from tests.stores.machines import Make

TICK_S = 20
LEASE_MS = 3 * TICK_S * 1000
# Past the time after which sweeps look after a tenant.
CHECK_S = 11
PER_TENANT = 2
QUEUE = "rq:queue:default"
TENANTS = ("acme", "bee", None)
FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
ASKED = Rest((Question("", "", "too much", LIMIT),), 99)
picks = st.integers(0, 1_000)


class TenantsMachine(StoreMachine):
    """What anybody may do, one thing after the other; the store's own keys are compared with the runs."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.store: RedisStore
        self.executor = QueueExecutor(self.store, tenant_wakeups=PER_TENANT)
        self.old = RedisStore(self.store.connection, scripts=old_script)
        self.runs: list[str] = []
        self.held: dict[str, Claim] = {}
        self.in_hand: list[str] = []
        self.limits = 0
        # Old workers, and people who delete, leave the set as it is until a sweep looks after it.
        self.is_disturbed = False
        # Wake-ups in the queue that are beyond the count: forged or doubled, or of runs whose worker died.
        self.extra = 0

    def teardown(self) -> None:
        self.everything_ends()
        super().teardown()

    def redis(self, *command: Any) -> Any:
        return self.do(self.store.pipeline.execute(*command))

    @property
    def wake(self) -> Any:
        return self.executor.wakeup

    def states(self) -> dict[str, RunState]:
        """The runs that are there."""

        async def read() -> list[RunState | BaseException]:
            return await asyncio.gather(*[self.store.read(run_id) for run_id in self.runs], return_exceptions=True)

        return {state.run_id: state for state in self.do(read()) if isinstance(state, RunState)}

    def pick(self, pick: int, *status: Status) -> RunState | None:
        fit = [state for state in self.states().values() if state.status in status]
        return fit[pick % len(fit)] if fit else None

    def queue(self) -> list[str]:
        return [job.decode().partition("-")[0] for job in self.redis("LRANGE", QUEUE, 0, -1)]

    # --- clients

    @initialize()
    def first_runs(self) -> None:
        for _ in range(4):
            self.create("acme", None, 0, session=False)

    @precondition(lambda self: len(self.runs) < 14)
    @rule(
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from((None, *PRIORITIES)),
        delay=st.sampled_from((0, 0, 0, 1)),
        session=st.booleans(),
    )
    def create(self, tenant: str | None, priority: Any, delay: int, session: bool) -> None:
        new = new_run(
            "x",
            tenant=tenant,
            priority=priority,
            delay_ms=delay * TICK_S * 1000,
            session_id="s" if session else None,
            concurrency_key="k" if priority == "low" else None,
            concurrency=2,
        )
        self.do(self.store.create(new, wake=self.wake))
        self.runs.append(new.run_id)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        try:
            self.do(self.store.cancel(self.runs[pick % len(self.runs)]))
        except (RunAlreadyFinished, RunNotFound):
            return

    @rule(pick=picks, stays=st.booleans())
    def pause(self, pick: int, stays: bool) -> None:
        run = self.pick(pick, Status.QUEUED, Status.RUNNING)
        if run is None:
            return
        try:
            self.do(self.store.pause(run.run_id))
        except CancelRequested:
            return
        if not stays:
            self.extra += run.run_id in self.queue()
            self.do(self.store.resume(run.run_id, wake=self.wake))

    @rule(pick=picks)
    def resume(self, pick: int) -> None:
        run = self.pick(pick, Status.PAUSED)
        if run is not None:
            self.extra += run.run_id in self.queue()
            self.do(self.store.resume(run.run_id, wake=self.wake))

    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        run = self.pick(pick, Status.FAILED)
        if run is not None and run.session_id is None:
            self.do(self.store.retry(run.run_id, Retry(run.fence), wake=self.wake))

    @rule(pick=picks)
    def go_on(self, pick: int) -> None:
        run = self.pick(pick, Status.WAITING)
        if run is not None:
            self.limits += 1
            self.do(self.store.set_limits(run.run_id, RunLimits(tokens=self.limits), wake=self.wake))

    # --- workers

    def took(self, claims: Any) -> None:
        self.held |= {claim.lease.run_id: claim for claim in claims}

    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        claimed = self.do(
            self.store.claim_wakeups(
                self.executor.source(), owner="w1", claim_id=new_token(), lease_ms=LEASE_MS, count=count
            )
        )
        self.took(claimed.claims)

    @rule()
    def stock_takes(self) -> None:
        """A worker of RQ takes a wake-up; it claims later, or dies before."""
        job = self.redis("LPOP", QUEUE)
        if job is not None:
            self.in_hand.append(job.decode().partition("-")[0])

    @precondition(lambda self: self.in_hand)
    @rule(dies=st.booleans(), is_old=st.sampled_from((False, False, False, True)))
    def stock_claims(self, dies: bool, is_old: bool) -> None:
        run_id = self.in_hand.pop(0)
        if dies:
            return
        self.is_disturbed |= is_old
        store = self.old if is_old else self.store
        self.took(self.do(store.claim([run_id], owner="stock", claim_id=new_token(), lease_ms=LEASE_MS)))

    @precondition(lambda self: self.held)
    @rule(pick=picks, status=st.sampled_from((Status.QUEUED, Status.QUEUED, *FINAL)), is_old=st.integers(0, 5))
    def commit(self, pick: int, status: Status, is_old: int) -> None:
        claim = self.held.pop(list(self.held)[pick % len(self.held)])
        commit = commit_of(claim, status, reply_message("a"), signals_seen=99, ttl_ms=1_000_000_000)
        store = self.store if is_old else self.old
        self.is_disturbed |= store is self.old
        self.extra += store is self.old
        self.settled(store.commit(claim.lease, commit, wake=self.wake))

    @precondition(lambda self: self.held)
    @rule(pick=picks, rests=st.booleans())
    def release(self, pick: int, rests: bool) -> None:
        claim = self.held.pop(list(self.held)[pick % len(self.held)])
        self.settled(self.store.release(claim.lease, EventBatch(1), rest=ASKED if rests else None, wake=self.wake))

    def settled(self, work: Any) -> None:
        try:
            self.do(work)
        except (LeaseLost, RunNotFound):
            assert self.is_disturbed or self.now

    # --- time, and what ought not to be

    @rule(ticks=st.sampled_from((1, 1, 3)))
    def pass_time(self, ticks: int) -> None:
        self.do(self.backend.pass_time(ticks * TICK_S))
        self.now += ticks

    @rule()
    def sweep(self) -> None:
        before = len(self.queue())
        swept = self.do(self.store.sweep(lease_ms=LEASE_MS, wake=self.wake))
        assert swept.to_wake == ()
        # Those that died, and those whose wake-up looked lost.
        self.extra += len(self.queue()) - before
        self.is_disturbed |= before == -1

    @rule(pick=picks)
    def forge(self, pick: int) -> None:
        self.redis("RPUSH", QUEUE, f"{self.runs[pick % len(self.runs)]}-9{pick}")
        self.extra += 1

    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        run = self.pick(pick, Status.QUEUED)
        if run is not None and run.session_id is None and pick % 3 == 0:
            self.redis("DEL", self.store.keys.run(run.run_id))
            self.is_disturbed = True

    @rule()
    def empty_the_queue(self) -> None:
        self.redis("DEL", QUEUE)
        self.extra = 0

    def everything_ends(self) -> None:
        """Promise P1: every run has its turn, and nothing is left of the lines."""
        for run_id, state in self.states().items():
            if state.status is Status.WAITING:
                self.limits += 1
                self.do(self.store.set_limits(run_id, RunLimits(tokens=self.limits), wake=self.wake))
            if state.pause is not None:
                self.do(self.store.resume(run_id, wake=self.wake))
        for _ in range(8 * len(self.runs) + 20):
            self.do(self.backend.pass_time(TICK_S))
            self.do(self.store.sweep(lease_ms=LEASE_MS, wake=self.wake))
            self.held = {}
            self.take(10)
            while self.held or self.queue():
                for claim in self.held.values():
                    status = Status.CANCELLED if claim.run.is_cancel_requested else Status.COMPLETED
                    commit = commit_of(claim, status, reply_message("a"), signals_seen=99, ttl_ms=1_000_000_000)
                    self.do(self.store.commit(claim.lease, commit, wake=self.wake))
                self.held = {}
                self.take(10)
            if all(state.status in FINAL for state in self.states().values()):
                break
        self.do(self.backend.pass_time(TICK_S))
        self.do(self.store.sweep(lease_ms=LEASE_MS, wake=self.wake))
        assert [state for state in self.states().values() if state.status not in FINAL] == []
        keys = {key.decode() for key in self.redis("KEYS", "agentq:tenant*")}
        assert {key for key in keys if not key.endswith((":turn", ":wakeup"))} == set()

    # --- what must hold

    @invariant()
    def nobody_is_lost_and_nobody_is_in_the_way(self) -> None:
        due = {run_id.decode() for run_id in self.redis("ZRANGE", self.store.keys.due, 0, -1)}
        queue = self.queue()
        states = self.states()
        for tenant in TENANTS:
            key = self.store.keys.tenant("default", tenant)
            standing = {run_id.decode() for run_id in self.redis("SMEMBERS", key)}
            line = [run_id.decode() for run_id in self.redis("ZRANGE", f"{key}:line", 0, -1)]
            mine = {run_id for run_id, state in states.items() if state.tenant == tenant and self.is_counted(state)}
            assert len(standing) <= PER_TENANT
            assert (set(line) & set(states)) == {run_id for run_id in mine if states[run_id].waits_for_tenant}
            assert not set(line) & standing
            if standing or line:
                assert self.redis("ZSCORE", self.store.keys.tenants, f"default:{tenant or ''}") is not None
            if self.is_disturbed:
                continue
            # Whoever waits does so because as many as may stand there are to be taken.
            assert len(standing) == PER_TENANT or not line
            assert {states[run_id].status for run_id in standing} <= {Status.QUEUED, Status.PAUSED}
            assert len({run_id for run_id in queue if run_id in mine}) <= PER_TENANT + self.extra
        for run_id, state in states.items():
            if state.status is Status.QUEUED and not state.is_cancel_requested:
                waits = state.waits_for_tenant + state.waits_for_session + state.waits_for_place
                assert waits + (run_id in due) == 1, (run_id, state, waits, run_id in due)
            assert not state.waits_for_tenant or state.status is Status.QUEUED or self.is_disturbed, state

    @staticmethod
    def is_counted(state: RunState) -> bool:
        return state.tenant is not None or state.priority is not None


def test_tenants_on_fakeredis():
    play(TenantsMachine, on_fakeredis, examples=20, steps=40)


def test_tenants_on_redis(redis_url: str):
    play(TenantsMachine, on_redis(redis_url), examples=25, steps=40)
