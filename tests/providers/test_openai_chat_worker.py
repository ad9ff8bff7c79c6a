"""The openai-chat provider in workers, over a real Redis: parallel calls, streams cut, workers killed."""

from __future__ import annotations

import asyncio
import threading
import warnings
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Callbacks, Settings, tool
from agentq.events.model import AttemptReset, Note, RunRecovered, TextDelta
from agentq.runs import Status
from agentq.worker import job
from tests.helpers import wait_until
from tests.providers.faults import (
    FaultServer,
    Wire,
    call,
    chunk,
    encoded,
    fails,
    says,
    says_then_hangs,
    streams,
)
from tests.worker.harness import LEASE_MS, client_at, worker_process, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentq import AsyncClient

ANSWER = encoded(says("It ", "is ", "16 ", "and ", "3."))
TWO_CALLS = [
    *call(0, "call_1", "add", '{"a": 7, "b": 9}'),
    *call(1, "call_2", "add", '{"a": 1, "b": 2}'),
    chunk(finish="tool_calls"),
]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@pytest.fixture(autouse=True)
def _model(model_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)


def app_at(url: str, *tools: Any, **settings: Any) -> AgentQ:
    values: dict[str, Any] = {"lease_ms": LEASE_MS, "sweep_ms": 100, "handover_ms": 50} | settings
    writer = Agent("writer", model="openai-chat:gpt-x", tools=tools, retry_backoff_s=0.05)
    return AgentQ([writer], settings=Settings(redis_url=url, **values))


async def events_of(client: AsyncClient, run_id: str) -> list[Any]:
    async with aclosing(client.events(run_id, live=False)) as events:
        return [event async for event in events]


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_two_parallel_calls_and_a_stream_that_is_cut(
    redis_url: str, client: AsyncClient, model_server: FaultServer
):
    """Both tools run once; the cut reply is reset and asked for again, and later viewers never see it."""
    ran: list[float] = []
    both, seen = asyncio.Event(), asyncio.Event()

    @tool(effect="none")
    async def add(a: float, b: float) -> float:
        """Add two numbers."""
        ran.append(a)
        if len(ran) == 2:
            both.set()
        await both.wait()  # they run at the same time, or not at all
        return a + b

    async def cut(wire: Wire) -> None:
        wire.keeps_alive = False
        await wire.head()
        await wire.send(ANSWER[:420])
        await seen.wait()

    model_server.answers(streams(TWO_CALLS), cut, streams(says("It ", "is ", "16 ", "and ", "3.")))
    async with working(app_at(redis_url, add)) as running:
        run = await client.enqueue("writer", "7 + 9 and 1 + 2?")
        live: list[Any] = []
        async with aclosing(client.events(run.id)) as events:
            async for event in events:
                live.append(event)
                if isinstance(event, TextDelta):
                    seen.set()
        result = await run.result(20)
        await running.stopped()
    assert result.output == "It is 16 and 3."
    assert sorted(ran) == [1, 7]
    assert len([event for event in live if isinstance(event, AttemptReset)]) == 1
    assert text_of(live) == "It " + "It is 16 and 3."
    assert text_of(await events_of(client, run.id)) == "It is 16 and 3."
    tools = [m["content"] for m in model_server.asked[-1].body["messages"] if m["role"] == "tool"]
    assert tools == ["16", "3"]


async def test_a_worker_that_is_killed_while_the_model_streams(
    redis_url: str, client: AsyncClient, model_server: FaultServer, tmp_path: Path
):
    """Another one asks again; what the first had streamed is reset."""
    model_server.answers(says_then_hangs(ANSWER[:420]), streams(says("It ", "is ", "16 ", "and ", "3.")))
    run = await client.enqueue("echo", "7 + 9 and 1 + 2?", model="openai-chat:gpt-x")
    live: list[Any] = []

    async def watch() -> None:
        await run.follow(Callbacks(on_event=live.append))

    watching = asyncio.create_task(watch())
    with worker_process(redis_url, tmp_path) as process:
        await wait_until(lambda: text_of(live) == "It ", timeout=20)
        process.kill()
        await asyncio.to_thread(process.wait)
    await model_server.is_quiet()
    with worker_process(redis_url, tmp_path):
        assert (await run.result(30)).output == "It is 16 and 3."
        await asyncio.wait_for(watching, 10)
    assert [type(event) for event in live if isinstance(event, AttemptReset | RunRecovered)].count(AttemptReset) == 1
    assert text_of(live) == "It " + "It is 16 and 3."
    assert text_of(await events_of(client, run.id)) == "It is 16 and 3."


async def test_a_long_retry_after_puts_the_run_off_and_frees_its_slot(
    redis_url: str, client: AsyncClient, model_server: FaultServer
):
    model_server.answers(fails(429, {"error": {"message": "later"}}, Retry_After="3600"), streams(says("16")))
    async with working(app_at(redis_url), concurrency=1):
        put_off = await client.enqueue("writer", "7 + 9?")
        await wait_until(lambda: len(model_server.asked) == 1)
        other = await client.enqueue("writer", "1 + 2?")
        assert (await other.result(20)).output == "16"
        state = await client.read(put_off.id)
        (note,) = [event for event in await events_of(client, put_off.id) if isinstance(event, Note)]
    assert (state.status, state.errors) == (Status.QUEUED, 1)
    assert 3_600_000 <= note.delay_ms <= 3_960_000
    assert state.not_before_ms - state.updated_ms == note.delay_ms


async def test_cancelling_a_run_closes_its_connection_at_once(
    redis_url: str, client: AsyncClient, model_server: FaultServer
):
    model_server.answers(says_then_hangs(ANSWER[:420]))
    async with working(app_at(redis_url, lease_ms=60_000)):
        run = await client.enqueue("writer", "7 + 9?")
        await wait_until(lambda: model_server.asked)
        await client.cancel(run.id)
        await model_server.is_quiet()
        await wait_until(lambda: _has_status(client, run.id, Status.CANCELLED))


async def _has_status(client: AsyncClient, run_id: str, status: Status) -> bool:
    return (await client.read(run_id)).status is status


async def test_a_job_of_stock_rq_leaves_no_connection_open(
    redis_url: str, client: AsyncClient, model_server: FaultServer, monkeypatch: pytest.MonkeyPatch
):
    """RQ runs each job in an event loop that it then drops."""
    model_server.answers(streams(says("16")))
    app = app_at(redis_url)
    monkeypatch.setattr(job, "_app", lambda _: app)
    run = await client.enqueue("writer", "7 + 9?")

    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop = asyncio.new_event_loop()
            loop.run_until_complete(job.continue_run(run.id))
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join, 20)
    assert (await run.result(5)).output == "16"
    await model_server.is_quiet()
