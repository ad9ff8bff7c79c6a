"""Tenants over a real Redis: what stands in the queue, who is let in next, and that nobody is left in line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.runs import Status
from agentq.stores.base import EventBatch
from agentq.stores.redis import RedisStore
from tests.stores.redis_parts import TimedParts
from tests.stores.tenant_parts import CHECK_S, LEASE_MS, QUEUE, House, old_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def house(redis_url: str) -> AsyncIterator[House]:
    parts = TimedParts(Connection(redis_url))
    yield House(parts)
    await parts.aclose()


async def test_so_many_wake_ups_of_a_tenant_stand_in_the_queue_and_no_more(house: House):
    runs = [await house.create() for _ in range(5)]
    other, free = await house.create("bee"), await house.create(None)
    assert await house.queue() == [*runs[:2], other, free]
    assert await house.in_line(*runs, other, free) == [False, False, True, True, True, False, False]


async def test_whoever_takes_one_lets_the_next_in_behind_the_others(house: House):
    runs = [await house.create() for _ in range(4)]
    other = await house.create("bee")
    (claim,) = await house.take()
    assert claim.lease.run_id == runs[0]
    assert await house.queue() == [runs[1], other, runs[2]]
    assert await house.in_line(*runs) == [False, False, False, True]


async def test_a_stock_worker_lets_the_next_in_too(house: House):
    runs = [await house.create() for _ in range(3)]
    await house.store.pipeline.execute("LPOP", QUEUE)
    assert await house.queue() == [runs[1]]
    await house.store.claim([runs[0]], owner="stock", claim_id=new_token(), lease_ms=LEASE_MS)
    assert await house.queue() == runs[1:]


async def test_one_claim_takes_more_than_may_stand_where_nobody_else_waits(house: House):
    runs = [await house.create() for _ in range(7)]
    assert [claim.lease.run_id for claim in await house.take(6)] == runs[:6]


async def test_a_queue_of_its_own_has_room_of_its_own(house: House):
    runs = [await house.create(queue=queue) for queue in ("default", "slow") for _ in range(3)]
    assert await house.in_line(*runs) == [False, False, True] * 2


async def test_high_goes_first_and_none_waits_for_ever(house: House):
    first = [await house.create() for _ in range(2)]
    runs = {name: [await house.create(priority=name) for _ in range(9)] for name in ("low", "normal", "high")}
    order = await house.let_in()
    assert order[:2] == first
    named = [name for run_id in order[2:16] for name in runs if run_id in runs[name]]
    assert [named.count(name) for name in ("high", "normal", "low")] == [8, 4, 2]
    for name in runs:
        assert [run_id for run_id in order if run_id in runs[name]] == runs[name]


async def test_runs_with_a_priority_and_no_tenant_stand_in_one_line(house: House):
    plain = await house.create(None)
    low = [await house.create(None, priority="low") for _ in range(4)]
    high = await house.create(None, priority="high")
    assert await house.queue() == [plain, *low[:2]]
    assert await house.let_in() == [plain, *low[:2], high, *low[2:]]


async def test_a_run_under_way_comes_before_those_that_have_not_begun(house: House):
    runs = [await house.create() for _ in range(5)]
    first, second = await house.take(2)
    assert await house.queue() == runs[2:4]
    await house.commit(first, Status.QUEUED)
    await house.commit(second, Status.QUEUED)
    assert await house.in_line(*runs) == [True, True, False, False, True]
    assert await house.let_in() == [*runs[2:4], *runs[:2], runs[4]]


async def test_a_run_that_is_handed_back_waits_for_the_others_of_its_tenant(house: House):
    runs = [await house.create() for _ in range(4)]
    (claim,) = await house.take()
    await house.store.release(claim.lease, EventBatch(1), wake=house.wake)
    assert await house.queue() == runs[1:3]
    assert await house.let_in() == [*runs[1:3], runs[0], runs[3]]


async def test_a_run_whose_worker_died_does_not_wait(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.take()
    for _ in range(4):
        await house.sweep(LEASE_MS / 3000)
    assert await house.queue() == [runs[0], *runs[1:3]]


async def test_a_run_that_may_be_what_kills_workers_does_not_hold_up_the_others(house: House):
    runs = [await house.create() for _ in range(5)]
    await house.take()
    for _ in range(4):
        await house.sweep(LEASE_MS / 3000)
    (again,) = await house.take()
    assert (again.lease.run_id, again.run.recoveries) == (runs[0], 1)
    await house.store.release(again.lease, EventBatch(1), wake=house.wake)
    assert await house.let_in() == [*runs[1:], runs[0]]


async def test_a_worker_that_dies_before_it_claims_holds_up_nobody(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pipeline.execute("LPOP", QUEUE, 2)
    for _ in range(3):
        await house.sweep()
    assert await house.queue() == runs[:2]
    assert await house.let_in() == runs


async def test_a_queue_that_was_emptied_fills_again(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pipeline.execute("DEL", QUEUE)
    await house.sweep()
    assert await house.let_in() == runs


async def test_a_forged_or_doubled_wake_up_takes_the_run_out_of_line(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pipeline.execute("LPUSH", QUEUE, f"{runs[3]}-77", f"{runs[3]}-78")
    claims = await house.take(2)
    assert [claim.lease.run_id for claim in claims] == [runs[3]]
    await house.commit(claims[0])
    assert await house.let_in() == runs[:3]
    assert await house.keys() == ["agentq:tenants:wakeup"]


async def test_a_cancelled_run_in_line_ends_by_whoever_names_it(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.cancel(runs[2])
    (claim,) = await house.store.claim([runs[2]], owner="client", claim_id=new_token(), lease_ms=LEASE_MS)
    await house.commit(claim, Status.CANCELLED)
    assert await house.let_in() == [*runs[:2], runs[3]]


async def test_a_cancelled_run_that_nobody_ended_is_let_in_next(house: House):
    runs = [await house.create() for _ in range(5)]
    await house.store.cancel(runs[4])
    await house.sweep()
    assert await house.queue() == runs[:2]
    assert await house.store.pipeline.execute("ZSCORE", house.store.keys.due, runs[4]) is None
    assert await house.let_in() == [*runs[:2], runs[4], *runs[2:4]]


async def test_a_paused_run_leaves_the_line_and_comes_back(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pause(runs[2])
    assert await house.in_line(*runs) == [False, False, False, True]
    assert await house.let_in() == [*runs[:2], runs[3]]
    await house.store.resume(runs[2], wake=house.wake)
    assert await house.let_in() == [runs[2]]


async def test_a_deleted_run_holds_up_nobody(house: House):
    runs = [await house.create() for _ in range(6)]
    for run_id in (runs[0], runs[2], runs[3]):
        await house.store.pipeline.execute("DEL", house.store.keys.run(run_id))
    order = await house.let_in()
    for _ in range(2):
        await house.sweep(CHECK_S)
        order += await house.let_in()
    assert order == [runs[1], runs[4], runs[5]]
    await house.sweep(CHECK_S)
    assert await house.keys() == ["agentq:tenants:wakeup"]


async def test_a_run_put_off_gets_in_line_when_its_time_has_come(house: House):
    late = await house.create(delay_ms=1000)
    runs = [await house.create() for _ in range(3)]
    assert await house.queue() == runs[:2]
    await house.sweep()
    assert await house.in_line(late, *runs) == [True, False, False, True]
    assert await house.let_in() == [*runs, late]


async def test_a_run_in_line_of_its_session_is_in_no_other(house: House):
    runs = [await house.create(session_id="s") for _ in range(4)]
    assert await house.queue() == runs[:1]
    assert await house.in_line(*runs) == [False] * 4
    assert await house.let_in() == runs


async def test_places_and_tenants_go_together(house: House):
    runs = [await house.create(concurrency_key="k", concurrency=1) for _ in range(5)]
    claims = await house.take(5)
    assert [claim.lease.run_id for claim in claims] == runs[:1]
    await house.commit(claims[0])
    assert await house.let_in() == runs[1:]


async def test_a_paused_queue_keeps_the_line_as_it_is(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pause_all("queue:default")
    assert await house.take(4) == []
    assert await house.in_line(*runs) == [False, False, True, True]
    await house.store.resume_all("queue:default")
    assert await house.let_in() == runs


async def test_runs_of_a_paused_agent_are_set_aside_and_come_back(house: House):
    runs = [await house.create() for _ in range(4)]
    other = await house.create(agent="other")
    await house.store.pause_all("agent:calculator")
    assert await house.let_in() == [other]
    assert await house.in_line(*runs) == [False] * 4
    await house.store.resume_all("agent:calculator")
    await house.sweep()
    # They came back at the same moment, so that any two of them stand in the queue.
    assert sorted(await house.in_line(*runs)) == [False, False, True, True]
    assert sorted(await house.let_in()) == sorted(runs)


async def test_more_or_fewer_may_stand_from_now_on(house: House):
    runs = [await house.create() for _ in range(8)]
    more, fewer = House(house.parts, 4), House(house.parts, 1)
    await more.create()
    assert await house.queue() == runs[:4]
    await fewer.create()
    await fewer.take(3)
    assert await house.queue() == runs[3:4]
    assert len(await fewer.let_in()) == 7


async def test_nothing_is_left_when_all_have_ended(house: House):
    for priority in (None, "high", "low"):
        for _ in range(3):
            await house.create(priority=priority)
    await house.let_in()
    assert await house.keys() == ["agentq:tenant:{default:acme}:turn", "agentq:tenants:wakeup"]
    for key in await house.keys():
        assert await house.store.pipeline.execute("PTTL", key) > 0


async def test_without_a_kept_template_a_sweep_lets_them_in(house: House):
    runs = [await house.create() for _ in range(4)]
    await house.store.pipeline.execute("DEL", "agentq:tenants:wakeup")
    assert await house.let_in() == runs[:2]
    await house.sweep(CHECK_S)
    assert await house.let_in() == runs[2:]


async def test_workers_that_know_no_tenants_hold_up_nobody_for_long(house: House):
    """A deploy is under way: old workers take wake-ups and let nobody in, until a new one sweeps."""
    runs = [await house.create() for _ in range(6)]
    old = House(house.parts)
    old.store = RedisStore(house.parts.connection, scripts=old_script)
    order = await old.let_in()
    assert order == runs[:2]
    for _ in range(3):
        await house.sweep(CHECK_S)
        order += await old.let_in()
    assert order == runs
    await house.sweep(CHECK_S)
    assert await house.keys() == ["agentq:tenants:wakeup"]
