"""The job function in this process: what goes wrong before there is a lease leaves the run to others."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import redis
from rq.worker import BaseWorker

from agentq import Agent, AgentQ, AsyncClient
from agentq.errors import UnknownProvider
from agentq.runs import Status
from agentq.worker import job, lookout
from tests.worker.harness import app_at, client_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


async def work(app: AgentQ, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the job function as RQ does, in an event loop of its own; raises what it raises."""
    monkeypatch.setattr(job, "_app", lambda _: app)
    monkeypatch.setattr(job, "_published", type(job._published)())  # noqa: SLF001 - this process may have published
    raised: list[BaseException] = []

    def call() -> None:
        try:
            asyncio.run(job.continue_run(run_id))
        except Exception as error:  # noqa: BLE001 - raised below
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    await asyncio.to_thread(thread.join, 20)
    if raised:
        raise raised[0]


async def assert_is_free(client: AsyncClient, run_id: str) -> None:
    run = await client.read(run_id)
    assert (run.status, run.fence) == (Status.QUEUED, 0)


async def test_an_agent_whose_model_nobody_knows_takes_no_lease(
    redis_url: str, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    app = app_at(redis_url)
    broken = AgentQ([*app.agents.values(), Agent("other", model="nobody:x")], settings=app.settings)
    run = await client.enqueue("echo", "hello")
    with pytest.raises(UnknownProvider, match="agent 'other'"):
        await work(broken, run.id, monkeypatch)
    await assert_is_free(client, run.id)
    await work(app, run.id, monkeypatch)
    assert (await run.result(1)).output == "hello"


async def test_what_rq_says_of_its_worker_is_read_before_there_is_a_lease(
    redis_url: str, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    with redis.Redis.from_url(redis_url) as connection:
        connection.set(f"{BaseWorker.redis_worker_namespace_prefix}w1", "not a hash")
    monkeypatch.setattr(lookout, "get_current_job", lambda: SimpleNamespace(worker_name="w1", origin="default"))
    run = await client.enqueue("echo", "hello")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await work(app_at(redis_url), run.id, monkeypatch)
    await assert_is_free(client, run.id)


async def test_a_run_goes_on_where_its_agents_cannot_be_published(
    redis_url: str, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    run = await client.enqueue("echo", "hello")
    with redis.Redis.from_url(redis_url) as connection:
        connection.set("agentq:agents", "not a hash")
    await work(app_at(redis_url), run.id, monkeypatch)
    assert (await run.result(1)).output == "hello"
    assert "agents are not published" in caplog.text
