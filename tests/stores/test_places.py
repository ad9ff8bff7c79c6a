"""Places over a real Redis: woken at once, and found again where somebody changed the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.executors.queue import QueueExecutor
from agentq.runs import Status
from agentq.testing._contract import batch, claimed, commit_of, queued, reply_message, try_claim
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[TimedParts]:
    parts = TimedParts(Connection(redis_url))
    yield parts
    await parts.aclose()


async def test_the_end_of_a_run_wakes_the_next_of_its_key(parts: TimedParts):
    store, wake = parts.store, QueueExecutor(parts.store).wakeup
    runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(2)]
    (first,) = await try_claim(store, *runs)
    committed = await store.commit(first.lease, commit_of(first, Status.COMPLETED, reply_message("b")), wake=wake)
    assert committed.next_run_id is None
    jobs = await store.pipeline.execute("LRANGE", "rq:queue:default", 0, -1)
    assert [job.decode().partition("-")[0] for job in jobs] == [runs[1]]


async def test_a_run_that_rests_wakes_the_next_of_its_key(parts: TimedParts):
    store, wake = parts.store, QueueExecutor(parts.store).wakeup
    runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(2)]
    (first,) = await try_claim(store, *runs)
    await store.pause(runs[0])
    await store.release(first.lease, batch(1), wake=wake)
    jobs = await store.pipeline.execute("LRANGE", "rq:queue:default", 0, -1)
    assert [job.decode().partition("-")[0] for job in jobs] == [runs[1]]


async def test_a_sweep_takes_places_from_runs_that_are_gone(parts: TimedParts):
    store = parts.store
    runs = [await queued(store, concurrency_key="k", concurrency=1) for _ in range(3)]
    await try_claim(store, *runs)
    await store.pipeline.execute("DEL", store.keys.run(runs[0]), store.keys.run(runs[1]))
    to_wake: list[str] = []
    for _ in range(3):
        await parts.pass_time(11)
        to_wake += (await store.sweep(lease_ms=60_000)).to_wake
    assert runs[2] in to_wake
    last = await claimed(store, runs[2])
    await store.commit(last.lease, commit_of(last, Status.COMPLETED, reply_message("b")))
    await parts.pass_time(11)
    await store.sweep(lease_ms=60_000)
    assert await store.pipeline.execute("KEYS", "agentq:places*") == []


async def test_nothing_is_left_when_all_have_ended(parts: TimedParts):
    store = parts.store
    for _ in range(3):
        claim = await claimed(store, await queued(store, concurrency_key="k", concurrency=1))
        await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("b")))
    await parts.pass_time(11)
    await store.sweep(lease_ms=60_000)
    assert await store.pipeline.execute("KEYS", "agentq:places*") == []
