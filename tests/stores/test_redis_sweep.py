"""The sweeper on a real Redis: it wakes what is lost, and nothing that is merely in line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.executors.queue import QueueExecutor
from agentq.runs import Status
from agentq.stores.filters import RunFilter
from agentq.testing._contract import commit_of, new_run
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.stores.base import Claim

LEASE_MS = 10_000
QUEUE = "rq:queue:default"


class Parts(TimedParts):
    """A store with wake-ups through RQ."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.executor = QueueExecutor(self.store)

    async def enqueue(self, agent: str = "calculator") -> str:
        new = new_run(agent=agent)
        await self.store.create(new, wake=self.executor.wakeup)
        return new.run_id

    async def claim(self, count: int = 1, *agents: str) -> tuple[Claim, ...]:
        claimed = await self.store.claim_wakeups(
            self.executor.source(),
            owner="worker",
            claim_id=new_token(),
            lease_ms=LEASE_MS,
            count=count,
            agents=agents or None,
        )
        return claimed.claims

    async def sweep(self, *agents: str, passes: int = 1) -> list[str]:
        """Passes two and a half seconds apart; what they woke."""
        woken: list[str] = []
        for _ in range(passes):
            await self.pass_time(2.5)
            found = await self.store.sweep(lease_ms=LEASE_MS, wake=self.executor.wakeup, agents=agents)
            woken += found.woken
        return woken

    async def waiting(self) -> int:
        return int(await self.connection.client.llen(QUEUE))


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[Parts]:
    parts = Parts(Connection(redis_url))
    yield parts
    await parts.aclose()


async def test_runs_in_line_are_left_in_line(parts: Parts) -> None:
    for _ in range(20):
        await parts.enqueue()
    assert await parts.sweep(passes=20) == []
    assert await parts.waiting() == 20


async def test_a_crashed_run_is_woken_once_although_nobody_comes_for_its_wake_up(parts: Parts) -> None:
    """Or a queue that no worker serves would fill with wake-ups."""
    crashed = await parts.enqueue()
    await parts.claim()
    for _ in range(20):
        await parts.enqueue()
    assert await parts.sweep(passes=30) == [crashed]
    assert await parts.waiting() == 21


async def test_a_crashed_run_that_is_alone_is_woken_once(parts: Parts) -> None:
    crashed = await parts.enqueue()
    await parts.claim()
    assert await parts.sweep(passes=30) == [crashed]
    assert await parts.waiting() == 1


async def test_a_wake_up_that_is_gone_is_written_again(parts: Parts) -> None:
    lost = await parts.enqueue()
    await parts.connection.client.delete(QUEUE)
    assert await parts.sweep(passes=5) == [lost]
    await parts.connection.client.lpop(QUEUE)
    await parts.pass_time(10)
    later = await parts.enqueue()
    assert await parts.sweep(passes=5) == [lost]
    assert {claim.run.run_id for claim in await parts.claim(5)} == {lost, later}


async def test_runs_that_only_others_can_serve_wait_for_a_worker_that_can(parts: Parts) -> None:
    """They neither spin nor stand in the way of the runs that are due."""
    foreign = [await parts.enqueue("poet") for _ in range(150)]
    assert await parts.claim(200, "calculator") == ()
    ours = await parts.enqueue()
    await parts.connection.client.delete(QUEUE)
    assert await parts.sweep("calculator", passes=3) == [ours]
    first = await parts.sweep("poet")
    second = await parts.sweep("poet")
    assert sorted(first + second) == sorted(foreign)
    assert len(await parts.claim(200, "poet")) == 150
    assert not await parts.connection.client.exists("agentq:unserved:poet")


async def test_a_run_that_ends_while_it_waits_for_its_agent_leaves_nothing(parts: Parts) -> None:
    run_id = await parts.enqueue("poet")
    await parts.claim(1, "calculator")
    (claim,) = await parts.store.claim([run_id], owner="client", claim_id=new_token(), lease_ms=LEASE_MS)
    await parts.store.commit(claim.lease, commit_of(claim, status=Status.CANCELLED, ttl_ms=1000))
    assert not await parts.connection.client.keys("agentq:unserved:*")


@pytest.mark.parametrize("field", ["not_before", "version", "queue", "lease_until", "recoveries"])
@pytest.mark.parametrize("value", [None, "garbage"])
async def test_a_run_with_an_odd_field_harms_no_other(parts: Parts, field: str, value: str | None) -> None:
    odd, sound = await parts.enqueue(), await parts.enqueue()
    key = parts.store.keys.run(odd)
    if value is None:
        await parts.connection.client.hdel(key, field)
    else:
        await parts.connection.client.hset(key, field, value)
    assert sound in {claim.run.run_id for claim in await parts.claim(5)}
    await parts.pass_time(LEASE_MS / 1000)
    assert sound in await parts.sweep(passes=8)


async def test_a_run_that_cannot_be_read_is_set_aside_and_left_out_of_lists(parts: Parts) -> None:
    odd, sound = await parts.enqueue(), await parts.enqueue()
    await parts.connection.client.hset(parts.store.keys.run(odd), "metadata", "no json")
    assert [claim.run.run_id for claim in await parts.claim(5)] == [sound]
    assert await parts.connection.client.hget(parts.store.keys.run(odd), "status") == b"failed"
    assert [run.run_id for run in await parts.store.list(RunFilter())] == [sound]


async def test_a_claim_takes_no_more_messages_than_it_can_read_in_time(parts: Parts) -> None:
    for _ in range(3):
        await parts.store.create(new_run(messages=new_run().messages * 4000), wake=parts.executor.wakeup)
    assert [len(await parts.claim(5)) for _ in range(3)] == [2, 1, 0]


async def test_a_worker_whose_sweeps_are_always_too_soon_finds_its_runs_all_the_same(parts: Parts) -> None:
    run_id = await parts.enqueue("poet")
    await parts.claim(1, "calculator")
    assert await parts.sweep("calculator") == []
    found = await parts.store.sweep(lease_ms=LEASE_MS, wake=parts.executor.wakeup, agents=("poet",))
    assert found.woken == (run_id,)
