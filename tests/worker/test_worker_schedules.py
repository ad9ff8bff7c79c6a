"""Workers carry schedules out, over a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq.runs import Status
from agentq.schedules import Schedule
from agentq.wiring import redis_parts
from tests.helpers import wait_until
from tests.worker.harness import app_at, client_at, worker_process, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentq import AsyncClient


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


async def _is_due(redis_url: str, schedule: Schedule) -> None:
    """Put a schedule there whose time came a moment ago."""
    parts = redis_parts(app_at(redis_url).settings)
    try:
        now, _ = await parts.store.schedules.due(1)
        await parts.store.schedules.put(schedule, now - 1)
    finally:
        await parts.aclose()


async def test_many_workers_make_one_run_of_a_firing(redis_url: str, client: AsyncClient):
    await _is_due(redis_url, Schedule("report", "echo", "Good morning.", "0 9 1 1 *"))
    async with working(app_at(redis_url)), working(app_at(redis_url)), working(app_at(redis_url)):
        runs = await wait_until(client.list)
        assert (await client.result(runs[0].run_id, 20)).output == "Good morning."
        (state,) = await client.schedules()
        assert (state.fired, state.last_run_id) == (1, runs[0].run_id)
    assert len(await client.list()) == 1


async def test_a_worker_that_is_killed_loses_no_firing(redis_url: str, client: AsyncClient, tmp_path: Path):
    with worker_process(redis_url, tmp_path) as process:
        await wait_until(client.agents)
        await _is_due(redis_url, Schedule("report", "echo", "Good morning.", "0 9 1 1 *"))
        process.kill()
        process.wait()
    async with working(app_at(redis_url)):
        (run,) = await wait_until(client.list)
        await wait_until(lambda: _is_completed(client, run.run_id))
    assert len(await client.list()) == 1


async def _is_completed(client: AsyncClient, run_id: str) -> bool:
    return await client.status(run_id) is Status.COMPLETED
