"""What is paused as a whole, in Redis: wake-ups stay in line, runs are parked, and nothing is left when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.executors.queue import QueueExecutor
from agentq.runs import EVERYTHING, Status, agent_scope, queue_scope
from agentq.testing._contract import LEASE_MS, claimed, commit_of, new_run
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.stores._claims import ClaimedWakeups
    from agentq.stores.base import Claim


class Bench:
    """A store with a queue, and what a worker of two queues takes from it."""

    def __init__(self, parts: TimedParts) -> None:
        self.parts = parts
        self.store = parts.store
        self.executor = QueueExecutor(parts.store)

    async def enqueue(self, agent: str = "shop", queue: str = "default") -> str:
        new = new_run(agent=agent, queue=queue)
        await self.store.create(new, wake=self.executor.wakeup)
        return new.run_id

    async def take(self, *, claim_id: str = "") -> ClaimedWakeups:
        return await self.store.claim_wakeups(
            self.executor.source(("urgent", "default")),
            owner="w",
            claim_id=claim_id or new_token(),
            lease_ms=LEASE_MS,
            count=10,
        )

    async def taken(self) -> list[str]:
        return [claim.run.run_id for claim in (await self.take()).claims]

    async def sweep(self, seconds: float = 3.0) -> tuple[str, ...]:
        await self.parts.pass_time(seconds)
        return (await self.store.sweep(lease_ms=LEASE_MS, wake=self.executor.wakeup)).woken

    async def command(self, *args: Any) -> Any:
        return await self.store.pipeline.execute(*args)


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    parts = TimedParts(Connection(redis_url))
    yield Bench(parts)
    await parts.aclose()


async def test_wake_ups_of_a_paused_queue_stay_in_line_and_those_of_others_are_taken(bench: Bench):
    kept, other = await bench.enqueue(), await bench.enqueue(queue="urgent")
    await bench.store.pause_all(queue_scope("default"))
    found = await bench.take(claim_id="c1")
    assert [claim.run.run_id for claim in found.claims] == [other]
    assert (found.popped, found.paused) == (1, ("rq:queue:default",))
    again = await bench.take(claim_id="c1")
    assert (again.popped, again.paused) == (1, ("rq:queue:default",))
    assert await bench.sweep() == ()
    await bench.store.resume_all(queue_scope("default"))
    assert await bench.taken() == [kept]


async def test_everything_that_is_paused_stays_in_line(bench: Bench):
    runs = [await bench.enqueue(), await bench.enqueue(queue="urgent")]
    await bench.store.pause_all(EVERYTHING)
    assert (await bench.take()).paused == ("rq:queue:urgent", "rq:queue:default")
    await bench.store.resume_all(EVERYTHING)
    assert sorted(await bench.taken()) == sorted(runs)


async def test_runs_of_a_paused_agent_are_parked_and_woken_by_whoever_sweeps(bench: Bench):
    kept, other = [await bench.enqueue() for _ in range(3)], await bench.enqueue("other")
    await bench.store.pause_all(agent_scope("shop"))
    assert await bench.taken() == [other]
    parked = bench.store.keys.parked(agent_scope("shop"))
    assert await bench.command("ZCARD", parked) == 3
    for _ in range(3):
        assert await bench.sweep() == ()
    await bench.store.resume_all(agent_scope("shop"))
    assert await bench.store.pauses() == {}
    assert sorted(await bench.sweep(0.0)) == sorted(kept)
    assert sorted(await bench.taken()) == sorted(kept)
    await bench.sweep()
    assert await bench.command("EXISTS", parked, bench.store.keys.paused) == 0


async def test_what_is_resumed_and_paused_again_before_a_sweep_stays_parked(bench: Bench):
    run_id = await bench.enqueue()
    await bench.store.pause_all(EVERYTHING)
    # As a stock worker does, which has taken the job off the queue.
    assert await bench.store.claim([run_id], owner="w", claim_id="c", lease_ms=LEASE_MS) == ()
    await bench.store.resume_all(EVERYTHING)
    await bench.store.pause_all(EVERYTHING, reason="again")
    assert await bench.sweep() == ()
    await bench.store.resume_all(EVERYTHING)
    assert await bench.sweep() == (run_id,)


async def test_many_parked_runs_are_woken_by_and_by(bench: Bench):
    runs = [await bench.enqueue() for _ in range(25)]
    await bench.store.pause_all(agent_scope("shop"))
    for _ in range(3):
        assert await bench.taken() == []
    await bench.store.resume_all(agent_scope("shop"))
    woken: list[str] = []
    while more := (await bench.store.sweep(lease_ms=LEASE_MS, wake=bench.executor.wakeup, limit=10)).woken:
        assert len(more) <= 10
        woken += more
    assert sorted(woken) == sorted(runs)


async def test_a_parked_run_that_is_cancelled_ends_and_leaves_nothing(bench: Bench):
    run_id = await bench.enqueue()
    await bench.store.pause_all(agent_scope("shop"))
    assert await bench.taken() == []
    await bench.store.cancel(run_id)
    assert await bench.sweep() == (run_id,)
    claim = await claimed(bench.store, run_id)
    committed = await bench.store.commit(claim.lease, commit_of(claim, Status.CANCELLED))
    assert committed.status is Status.CANCELLED
    assert await bench.command("EXISTS", bench.store.keys.parked(agent_scope("shop"))) == 0


async def parked_and_taken(bench: Bench) -> Claim:
    """A run that was parked, and then taken before a sweep had looked at what was resumed."""
    run_id = await bench.enqueue()
    await bench.store.pause_all(agent_scope("shop"))
    assert await bench.taken() == []
    await bench.store.resume_all(agent_scope("shop"))
    return await claimed(bench.store, run_id)


async def test_a_sweep_takes_no_run_from_the_worker_that_was_faster(bench: Bench):
    claim = await parked_and_taken(bench)
    await bench.store.pause(claim.lease.run_id)
    assert await bench.sweep() == ()
    committed = await bench.store.commit(claim.lease, commit_of(claim, Status.QUEUED))
    assert committed.status is Status.PAUSED


async def test_a_sweep_wakes_no_run_that_was_put_off_meanwhile(bench: Bench):
    claim = await parked_and_taken(bench)
    await bench.store.commit(claim.lease, commit_of(claim, Status.QUEUED, delay_ms=10_000))
    assert await bench.sweep() == ()
    assert (await bench.store.read(claim.lease.run_id)).not_before_ms > 0
    assert await bench.sweep(10) == (claim.lease.run_id,)
