"""Workers tell webhooks how runs end, over a real Redis and real HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, Settings, Webhook, tool
from agentq._redis.connection import Connection
from agentq.runs import Status
from agentq.stores.redis import RedisStore
from agentq.tools.context import ToolContext
from agentq.worker import Worker
from tests.helpers import wait_until
from tests.receiver import SECRET, Receiver, receiving
from tests.worker.harness import LEASE_MS, client_at, worker_process, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentq import AsyncClient
    from agentq.stores._webhooks import RedisWebhooks

NAME = "orders"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@tool(effect="once", approval=True)
async def pay(ctx: ToolContext, amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def app_with(redis_url: str, *webhooks: Webhook, **settings: Any) -> AgentQ:
    values = {"lease_ms": LEASE_MS, "sweep_ms": 100, "handover_ms": 50} | settings
    return AgentQ([Agent("echo", tools=[pay])], settings=Settings(redis_url=redis_url, **values), webhooks=webhooks)


def hook(receiver: Receiver, **fields: Any) -> Webhook:
    return Webhook(receiver.url, SECRET, **{"name": NAME} | fields)


@asynccontextmanager
async def outbox_at(redis_url: str) -> AsyncIterator[RedisWebhooks]:
    store = RedisStore(Connection(redis_url))
    try:
        yield store.webhooks
    finally:
        await store.aclose()
        await store.connection.aclose()


def types_of(receiver: Receiver) -> list[str]:
    return sorted(got.message()["type"] for got in receiver.got)


async def test_the_end_of_a_run_is_told(redis_url: str, client: AsyncClient):
    async with receiving() as receiver, working(app_with(redis_url, hook(receiver, with_metadata=True))):
        run = await client.enqueue("echo", "say hello", model="mock", session_id="s", metadata={"order": 7})
        await run.result(20)
        await wait_until(lambda: receiver.got)
    message = receiver.got[0].message()
    assert (message["type"], message["data"]["run_id"]) == ("run.completed", run.id)
    assert (message["data"]["output"], message["data"]["metadata"]) == ("hello", {"order": 7})


async def test_a_run_that_waits_is_told_and_then_its_end(redis_url: str, client: AsyncClient):
    async with receiving() as receiver, working(app_with(redis_url, hook(receiver))):
        run = await client.enqueue("echo", 'call pay {"amount": 5}\nsay $1', model="mock")
        await wait_until(lambda: receiver.got)
        waiting = receiver.got[0].message()
        assert waiting["type"] == "run.waiting"
        (question,) = waiting["data"]["questions"]
        assert (question["kind"], question["tool"]) == ("approval", "pay")
        assert await client.status(run.id) is Status.WAITING
        await client.approve(run.id, by="ann")
        assert (await run.result(20)).output == "paid 5"
        await wait_until(lambda: len(receiver.got) == 2)
    assert types_of(receiver) == ["run.completed", "run.waiting"]


async def test_a_run_that_a_client_cancels_is_told_by_the_next_worker(redis_url: str, client: AsyncClient):
    async with receiving() as receiver:
        async with working(app_with(redis_url, hook(receiver))):
            await wait_until(client.agents)
        run = await client.enqueue("echo", "say hello", delay=60)
        await client.cancel(run.id, reason="enough")
        assert receiver.got == []
        async with working(app_with(redis_url, hook(receiver))):
            await wait_until(lambda: receiver.got)
    message = receiver.got[0].message()
    assert (message["type"], message["data"]["reason"]) == ("run.cancelled", "enough")


async def test_a_burst_tells_before_it_ends(redis_url: str, client: AsyncClient):
    async with receiving() as receiver:
        for number in range(5):
            await client.enqueue("echo", f"say {number}", model="mock")
        await Worker(app_with(redis_url, hook(receiver)), burst=True).run()
        assert types_of(receiver) == ["run.completed"] * 5


async def test_each_webhook_has_a_lane_of_its_own(redis_url: str, client: AsyncClient):
    async with receiving("hang") as slow, receiving() as quick:
        app = app_with(redis_url, hook(slow, name="slow"), hook(quick, name="quick"))
        async with working(app):
            runs = [await client.enqueue("echo", f"say {number}", model="mock") for number in range(20)]
            await wait_until(lambda: len(quick.got) == 20, timeout=30)
            assert {got.message()["data"]["run_id"] for got in quick.got} == {run.id for run in runs}
            assert len(slow.got) < 20


@pytest.mark.timeout(180)
async def test_a_thousand_runs_end_while_nobody_answers(redis_url: str, client: AsyncClient):
    async with receiving() as receiver:
        away = hook(receiver)
    async with working(app_with(redis_url, away)), outbox_at(redis_url) as outbox:
        runs = [await client.enqueue("echo", f"say {number}", model="mock") for number in range(1_000)]
        results = await asyncio.gather(*(run.result(60) for run in runs))
        assert [result.output for result in results] == [str(number) for number in range(1_000)]
        (state,) = await outbox.known()
        assert (state.pending, state.delivered) == (1_000, 0)


async def test_a_worker_killed_with_a_message_in_its_hands_loses_none(
    redis_url: str, client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It was killed between taking a message and saying what became of it: the next one sends the same again."""
    async with receiving("hang", 204) as receiver:
        monkeypatch.setenv("WORKER_TEST_HOOK", receiver.url)
        monkeypatch.setenv("WORKER_TEST_SECRET", SECRET)
        with worker_process(redis_url, tmp_path) as process:
            run = await client.enqueue("echo", "say hello", model="mock")
            await run.result(30)
            await wait_until(lambda: receiver.got, timeout=20)
            process.kill()
            process.wait()
        async with outbox_at(redis_url) as outbox:
            await _pass_lock(client)
            async with working(app_with(redis_url, hook(receiver))):
                await wait_until(lambda: len(receiver.got) == 2, timeout=20)
                await wait_until(lambda: _is_empty(outbox))
    assert len(set(receiver.ids)) == 1
    assert receiver.got[1].message()["data"]["run_id"] == run.id


async def test_a_worker_killed_before_it_took_a_message_loses_none(redis_url: str, client: AsyncClient, tmp_path: Path):
    async with receiving() as receiver, outbox_at(redis_url) as outbox:
        # A worker that knows the webhook, and delivers nothing: all it does is end runs.
        await outbox.publish([hook(receiver)])
        with worker_process(redis_url, tmp_path) as process:
            run = await client.enqueue("echo", "say hello", model="mock")
            await run.result(30)
            process.kill()
            process.wait()
        (message,) = await outbox.messages(NAME)
        assert (message.run_id, message.attempts) == (run.id, 0)
        async with working(app_with(redis_url, hook(receiver))):
            await wait_until(lambda: receiver.got, timeout=20)
            await wait_until(lambda: _is_empty(outbox))
    assert receiver.ids == [message.message_id]


@pytest.mark.timeout(180)
async def test_workers_that_are_killed_again_and_again_tell_of_every_run(
    redis_url: str, client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The server fails, too. Each run is told of at least once, and never under two ids."""
    async with receiving(204, 500, "close", 204, 503, 204, "hang", 204, 302) as receiver:
        receiver.repeats = True
        monkeypatch.setenv("WORKER_TEST_HOOK", receiver.url)
        monkeypatch.setenv("WORKER_TEST_SECRET", SECRET)
        runs: set[str] = set()
        for _ in range(3):
            runs |= {(await client.enqueue("echo", "say hello", model="mock")).id for _ in range(20)}
            enough = len(receiver.got) + 10
            with worker_process(redis_url, tmp_path) as process:
                await wait_until(partial(_has_got, receiver, enough), timeout=30)
                process.kill()
                process.wait()
            await _pass_lock(client)
        receiver.plays = [204]
        async with working(app_with(redis_url, hook(receiver))), outbox_at(redis_url) as outbox:

            async def is_done() -> bool:
                await _pass_lock(client)
                ended = [run for run in await client.list(limit=1_000) if run.status is Status.COMPLETED]
                return len(ended) == len(runs) and await _is_empty(outbox)

            await wait_until(is_done, timeout=40)
    told = {got.message()["data"]["run_id"]: set[str]() for got in receiver.got}
    for got in receiver.got:
        told[got.message()["data"]["run_id"]].add(got.id)
    assert set(told) == runs
    assert {len(ids) for ids in told.values()} == {1}
    assert len(receiver.got) > len(runs)


async def _pass_lock(client: AsyncClient) -> None:
    """Let the locks of what was taken, and the waits of what failed, run out, without waiting for it."""
    store: Any = client._parts().store  # noqa: SLF001
    due = store.keys.webhook("due", NAME)
    for message in await store.webhooks.messages(NAME, state="failed", limit=1_000):
        await store.pipeline.execute("ZADD", due, "XX", message.at_ms, message.message_id)


def _has_got(receiver: Receiver, enough: int) -> bool:
    return len(receiver.got) >= enough


async def _is_empty(outbox: RedisWebhooks) -> bool:
    return await outbox.messages(NAME) == ()
