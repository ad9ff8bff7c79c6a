"""Stopping a worker over a real Redis: another one goes on, and what must not be repeated is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import wait_until
from tests.worker.harness import Gate, app_at, client_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq import AsyncClient

# No recovery may hide a hand-over that failed.
LONG_LEASE_MS = 120_000


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_another_worker_goes_on_where_a_stopped_one_was(redis_url: str, gate: Gate, client: AsyncClient):
    gate.lets_through = {"a"}
    app = app_at(redis_url, gate, lease_ms=LONG_LEASE_MS)
    async with working(app) as first:
        run = await client.enqueue("echo", 'call put {"name": "a"} & call put {"name": "b"}\nsay $1, $2')
        await wait_until(lambda: gate.entered == ["a", "b"])
        async with working(app):
            assert (await first.stopped()).released == 1
            await wait_until(lambda: gate.entered == ["a", "b", "b"])
            gate.open.set()
            assert (await run.result(20)).output == "a passed, b passed"


async def test_a_hundred_in_flight_are_handed_over(redis_url: str, gate: Gate, client: AsyncClient):
    app = app_at(redis_url, gate, lease_ms=LONG_LEASE_MS)
    runs = [await client.enqueue("echo", "call put {}\nsay $1") for _ in range(100)]
    async with working(app) as first:
        await wait_until(lambda: len(gate.entered) == 100)
        assert (await first.stopped()).released == 100
    gate.open.set()
    async with working(app):
        for run in runs:
            assert (await run.result(20)).output == "put passed"


async def test_a_tool_that_must_not_be_repeated_is_waited_for(redis_url: str, gate: Gate, client: AsyncClient):
    app = app_at(redis_url, gate, lease_ms=LONG_LEASE_MS)
    async with working(app) as first:
        run = await client.enqueue("echo", "call pay {}\nsay $1")
        other = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: sorted(gate.entered) == ["pay", "put"])
        first.worker.stop()
        async with working(app):
            await wait_until(lambda: gate.entered.count("put") == 2)
            assert not first.task.done()
            gate.open.set()
            assert (await run.result(20)).output == "pay passed"
            assert (await other.result(20)).output == "put passed"
        await first.ended()
    assert gate.entered.count("pay") == 1


async def test_a_tool_that_must_not_be_repeated_and_was_cut_off_has_an_unknown_outcome(
    redis_url: str, gate: Gate, client: AsyncClient
):
    app = app_at(redis_url, gate, lease_ms=LONG_LEASE_MS)
    async with working(app) as first:
        run = await client.enqueue("echo", "call pay {}\nsay $1")
        await wait_until(lambda: gate.entered)
        first.worker.stop_now()
        assert (await first.ended()).released == 1
    async with working(app):
        assert "unknown" in (await run.result(20)).output
    assert gate.entered == ["pay"]


async def test_what_waits_in_the_queue_stays_there(redis_url: str, gate: Gate, client: AsyncClient):
    app = app_at(redis_url, gate, lease_ms=LONG_LEASE_MS)
    async with working(app, concurrency=1) as first:
        runs = [await client.enqueue("echo", "call put {}\nsay $1") for _ in range(5)]
        await wait_until(lambda: gate.entered)
        await first.stopped()
    assert len(gate.entered) == 1
    gate.open.set()
    async with working(app):
        for run in runs:
            await run.result(20)
