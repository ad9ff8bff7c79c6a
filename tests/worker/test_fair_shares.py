"""A tenant with 10,000 queued runs does not hold up another's first, on our workers and on stock workers of RQ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis

from agentq._redis.connection import Connection
from agentq.executors.queue import QueueExecutor
from agentq.insight.reasons import Code
from agentq.runs import Status
from agentq.settings import TENANT_WAKEUPS
from agentq.stores.redis import RedisStore
from agentq.testing._contract import new_run
from tests.helpers import wait_until
from tests.worker import stock
from tests.worker.harness import Gate, app_at, client_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentq import AsyncClient

MANY = 10_000
AT_ONCE = 500
QUEUE = "rq:queue:default"


@pytest.fixture
def rq(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


async def enqueue_many(url: str) -> None:
    """Very many runs of one tenant, without what a client checks of each."""
    connection = Connection(url)
    store = RedisStore(connection)
    wake = QueueExecutor(store).wakeup
    for _ in range(0, MANY, AT_ONCE):
        runs = [new_run("hello", agent="echo", tenant="acme") for _ in range(AT_ONCE)]
        await asyncio.gather(*[store.create(run, wake=wake) for run in runs])
    await store.aclose()
    await connection.aclose()


async def started_before(client: AsyncClient, run_id: str) -> int:
    """How many runs were started before this one."""
    started_ms = (await client.read(run_id)).started_ms
    assert started_ms
    begun = [run for status in ("running", "completed") for run in await client.list(status=status, limit=1000)]
    return sum(0 < run.started_ms < started_ms for run in begun)


async def test_ten_thousand_runs_of_a_tenant_delay_another_by_as_many_as_may_stand(
    redis_url: str, rq: redis.Redis, client: AsyncClient
):
    await enqueue_many(redis_url)
    assert rq.llen(QUEUE) == TENANT_WAKEUPS
    other = await client.enqueue("echo", "hello", tenant="bee")
    (queue,) = await client.insight.queues()
    assert (queue.waiting, queue.in_line) == (TENANT_WAKEUPS + 1, MANY - TENANT_WAKEUPS)
    async with working(app_at(redis_url), concurrency=1):
        await other.result(30)
    assert await started_before(client, other.id) <= TENANT_WAKEUPS


async def test_a_stock_worker_comes_to_the_other_tenant_as_soon(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path
):
    await enqueue_many(redis_url)
    other = await client.enqueue("echo", "hello", tenant="bee")
    jobs = ("--max-jobs", str(TENANT_WAKEUPS + 1))
    said = await stock.said(redis_url, tmp_path, "worker", *jobs, "-S", "json", *stock.SIMPLE, "default")
    assert (await client.read(other.id)).status is Status.COMPLETED, said
    assert len(await client.list(status=Status.COMPLETED)) == TENANT_WAKEUPS + 1
    # Each job has let the next one in.
    assert rq.llen(QUEUE) == TENANT_WAKEUPS


async def test_a_tenant_that_has_all_slots_gives_the_next_ones_to_another(redis_url: str, client: AsyncClient):
    gate = Gate()
    runs = [await client.enqueue("echo", "call look {}\nsay $1", tenant="acme") for _ in range(40)]
    async with working(app_at(redis_url, gate), concurrency=3):
        await wait_until(lambda: len(gate.entered) == 3)
        other = await client.enqueue("echo", "hello", tenant="bee")
        reason = await client.why(runs[-1].id)
        assert reason.code is Code.WAITS_FOR_TENANT
        assert reason.text == "it stands behind 36 runs of tenant 'acme', 10 of which wait in queue default"
        gate.open.set()
        await other.result(30)
        assert await started_before(client, other.id) <= 3 + TENANT_WAKEUPS
        for run in runs:
            assert (await run.result(30)).output == "look passed"
