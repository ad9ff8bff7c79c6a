"""A worker that was told to be quiet takes nothing new, finishes what it has, and takes work again when told so."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import redis
from click.testing import CliRunner, Result
from rq import Worker as RQWorker
from rq.serializers import JSONSerializer

from agentq.cli import cli
from agentq.cli._group import Options
from agentq.errors import InvalidInput, WorkerNotFound
from agentq.insight.reasons import Code
from agentq.runs import Status
from tests.helpers import wait_until
from tests.worker.harness import Gate, app_at, client_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agentq import AsyncClient
    from agentq.insight.facts import WorkerInfo

LOOK = "call look {}\nsay done"


@pytest.fixture
def rq(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


async def worker_of(client: AsyncClient, name: str) -> WorkerInfo | None:
    return next((each for each in await client.insight.workers() if each.name == name), None)


async def is_quiet(client: AsyncClient, name: str) -> bool:
    worker = await worker_of(client, name)
    return worker is not None and worker.is_quiet


async def at_work(client: AsyncClient, gate: Gate) -> None:
    """w1 has registered, and is in a tool."""
    await wait_until(lambda: worker_of(client, "w1"))
    await wait_until(lambda: gate.entered)


async def is_loud(client: AsyncClient, name: str) -> bool:
    return not await is_quiet(client, name)


async def typed(url: str, *args: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, args, obj=Options(redis_url=url))


async def test_it_finishes_what_it_has_and_takes_nothing_new(redis_url: str, client: AsyncClient, rq: redis.Redis):
    gate = Gate()
    async with working(app_at(redis_url, gate), name="w1"):
        begun = await client.enqueue("echo", LOOK)
        await at_work(client, gate)
        assert await client.quiet_workers("w1", reason="a new kernel", by="ada") == ("w1",)
        await wait_until(lambda: is_quiet(client, "w1"))
        later = await client.enqueue("echo", "hello")
        gate.open.set()
        await wait_until(lambda: done(client, begun.id, iteration=1))
        why = await client.why(later.id)
        assert (why.code, why.needs_help) == (Code.WORKERS_QUIET, True)
        assert "told to be quiet: w1" in why.text
        assert await client.status(later.id) is Status.QUEUED
        assert 0 < rq.ttl("agentq:worker:w1:quiet") <= 120
        assert await client.resume_workers("w1") == ("w1",)
        assert (await client.result(later.id, timeout=10)).output == "hello"
        assert (await client.result(begun.id, timeout=10)).output == "done"
        await wait_until(lambda: is_loud(client, "w1"))
        assert not rq.exists("agentq:worker:w1:quiet")


async def done(client: AsyncClient, run_id: str, *, iteration: int) -> bool:
    return (await client.read(run_id)).iteration >= iteration


async def test_others_take_the_rest_and_one_that_starts_later_too(redis_url: str, client: AsyncClient):
    async with working(app_at(redis_url), name="w1"):
        await wait_until(lambda: worker_of(client, "w1"))
        assert await client.quiet_workers() == ("w1",)
        await wait_until(lambda: is_quiet(client, "w1"))
        async with working(app_at(redis_url), name="w2") as other:
            for _ in range(5):
                assert (await (await client.enqueue("echo", "hello")).result(timeout=10)).output == "hello"
            report = await other.stopped()
            assert report.committed == 5


async def test_it_keeps_its_key_while_it_lives_and_rq_shows_it_as_suspended(
    redis_url: str, client: AsyncClient, rq: redis.Redis
):
    async with working(app_at(redis_url), name="w1"):
        await wait_until(lambda: worker_of(client, "w1"))
        await client.quiet_workers("w1")
        await wait_until(lambda: is_quiet(client, "w1"))
        rq.expire("agentq:worker:w1:quiet", 60)
        await wait_until(lambda: int(rq.ttl("agentq:worker:w1:quiet")) > 60)
        assert rq.hget("rq:worker:w1", "state") == b"suspended"


async def test_the_first_word_stands(redis_url: str, client: AsyncClient):
    async with working(app_at(redis_url), name="w1"):
        await wait_until(lambda: worker_of(client, "w1"))
        await client.quiet_workers("w1", by="ada")
        await client.quiet_workers("w1", by="bob")
        told = await client.insight.quiet.told("w1")
        assert told is not None
        assert told.by == "ada"


async def test_a_burst_that_is_told_to_be_quiet_ends(redis_url: str, client: AsyncClient):
    gate = Gate()
    async with working(app_at(redis_url, gate), name="w1", burst=True) as running:
        await client.enqueue("echo", LOOK)
        waiting = await client.enqueue("echo", "hello", delay=0)
        await at_work(client, gate)
        await client.quiet_workers("w1")
        await wait_until(lambda: is_quiet(client, "w1"))
        gate.open.set()
        assert (await running.ended()).failed == 0
        assert await client.status(waiting.id) in (Status.QUEUED, Status.COMPLETED)


async def test_who_cannot_be_told(redis_url: str, client: AsyncClient, rq: redis.Redis):
    stock = RQWorker(["default"], connection=rq, name="stock", serializer=JSONSerializer)
    stock.register_birth()
    with pytest.raises(InvalidInput, match="stock is a stock rq worker, which cannot be told"):
        await client.quiet_workers("stock")
    with pytest.raises(WorkerNotFound, match="there is no worker 'nobody'"):
        await client.resume_workers("nobody")
    with pytest.raises(InvalidInput, match="name workers or a host, not both"):
        await client.quiet_workers("stock", host="here")
    assert await client.quiet_workers() == ()
    stock.register_death()


class TestCommands:
    async def test_one_worker_is_waited_for_until_it_is_idle(self, redis_url: str, client: AsyncClient):
        gate = Gate()
        async with working(app_at(redis_url, gate), name="w1"):
            run = await client.enqueue("echo", LOOK)
            await at_work(client, gate)
            busy = await typed(redis_url, "workers", "quiet", "w1")
            assert (busy.exit_code, busy.stdout) == (0, "w1 quiet: 1 iteration in flight\n")
            assert (await typed(redis_url, "workers")).stdout.splitlines()[1].split()[:3] == ["w1", "quiet", "1/100"]
            waiting = asyncio.create_task(typed(redis_url, "workers", "quiet", "w1", "--wait", "20"))
            gate.open.set()
            idle = await waiting
            assert (idle.exit_code, idle.stdout) == (0, "w1 quiet: 0 iterations in flight\n")
            again = await typed(redis_url, "workers", "resume", "w1", "--json")
            assert [each["is_quiet"] for each in json.loads(again.stdout)["workers"]] == [False]
            assert (await client.result(run.id, timeout=10)).output == "done"

    async def test_waiting_ends(self, redis_url: str, client: AsyncClient, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("agentq.cli.workers._HEARD_WITHIN_S", 0.0)
        gate = Gate()
        async with working(app_at(redis_url, gate), name="w1"):
            await client.enqueue("echo", LOOK)
            await at_work(client, gate)
            result = await typed(redis_url, "workers", "quiet", "w1", "--wait", "0.01")
            assert result.exit_code == 124
            gate.open.set()

    @pytest.mark.parametrize("which", [("--all",), ("--host", "HOST")])
    async def test_many_are_told_only_after_a_yes(self, redis_url: str, client: AsyncClient, which: tuple[str, ...]):
        async with working(app_at(redis_url), name="w1"), working(app_at(redis_url), name="w2"):
            await wait_until(lambda: worker_of(client, "w2"))
            worker: Any = await wait_until(lambda: worker_of(client, "w1"))
            words = [worker.host if word == "HOST" else word for word in which]
            refused = await typed(redis_url, "workers", "quiet", *words)
            assert refused.exit_code == 2
            assert "that would quiet 2 workers; --yes says so" in refused.stderr
            told = await typed(redis_url, "workers", "quiet", *words, "--yes", "--as", "ada", "--reason", "tests")
            assert told.stdout.count("quiet: 0 iterations in flight") == 2
            assert (await typed(redis_url, "workers", "resume", *words, "--yes")).stdout == "w1 idle\nw2 idle\n"

    async def test_nobody_is_there(self, redis_url: str):
        result = await typed(redis_url, "workers", "quiet", "--host", "nowhere", "--yes")
        assert (result.exit_code, result.stderr) == (0, "no such workers are there\n")
