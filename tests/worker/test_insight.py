"""Why runs rest, who works and what waits, read from a real Redis while real workers are at it, or are not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis
from rq import Queue
from rq import Worker as RQWorker
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from agentq import AsyncClient, Client, RunNotFound
from agentq._redis.connection import Connection
from agentq.errors import InvalidInput, StoreUnavailable
from agentq.executors.queue import QueueExecutor
from agentq.insight.asking import Insight
from agentq.insight.reasons import Code, Reason
from agentq.runs import SCHEMA_VERSION
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore
from agentq.stores.redis import RedisStore
from agentq.wiring import redis_parts
from tests.helpers import wait_until
from tests.worker.harness import Gate, app_at, client_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agentq.wiring import Parts

LOOK = "call look {}\nsay done"


@pytest.fixture
def rq(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[Parts]:
    made = redis_parts(Settings(redis_url=redis_url))
    yield made
    await made.aclose()


@pytest.fixture
def stock(rq: redis.Redis) -> RQWorker:
    """The record of a stock rq worker on queue default, which does nothing."""
    worker = RQWorker([Queue("default", connection=rq)], connection=rq, name="stock")
    worker.register_birth()
    return worker


async def reason(client: AsyncClient, run_id: str, code: Code) -> Reason:
    """The reason, as soon as it is that one."""

    found: list[Reason] = []

    async def is_that_one() -> bool:
        found.append(await client.why(run_id))
        return found[-1].code is code

    await wait_until(is_that_one, message=f"{code}")
    return found[-1]


# why


async def test_a_run_without_a_worker_and_one_that_is_not_there(client: AsyncClient):
    run = await client.enqueue("echo", "hello", queue="slow")
    found = await client.why(run.id)
    assert (found.code, found.fix) == (Code.NO_WORKER, "start: agentq worker -q slow")
    with pytest.raises(RunNotFound):
        await client.why("01JD3ZK8W5Q0X9V7T2M4N6P8RA")
    with pytest.raises(RunNotFound):
        await client.why("nonsense")


async def test_runs_of_a_busy_worker_and_how_they_end(redis_url: str, client: AsyncClient):
    gate = Gate()
    async with working(app_at(redis_url, gate), concurrency=1) as running:
        first = await client.enqueue("echo", LOOK)
        await wait_until(lambda: gate.entered)
        second, third = await client.enqueue("echo", "hello"), await client.enqueue("echo", "hello")

        held = await client.why(first.id)
        assert held.code is Code.RUNNING
        assert held.details["owner"] == running.worker.name
        busy = await reason(client, third.id, Code.WORKERS_BUSY)
        assert (busy.details["ahead"], busy.details["slots"]) == (1, 1)
        assert (await reason(client, second.id, Code.WORKERS_BUSY)).details["ahead"] == 0

        gate.open.set()
        await third.result(20)
        ended = await client.why(third.id)
        assert ended.code is Code.COMPLETED
        assert ended.details["expires_ms"] > ended.details["finished_ms"]


async def test_a_run_that_backs_off_and_one_that_is_delayed(redis_url: str, client: AsyncClient):
    app = app_at(redis_url)
    async with working(app):
        delayed = await client.enqueue("echo", "hello", delay=100)
        failing = await client.enqueue("echo", "\n".join(["fail 503"] * 8))
        found = await reason(client, failing.id, Code.BACKING_OFF)
        assert "503" in found.text
        assert found.details["until_ms"] > 0
        assert (await client.why(delayed.id)).code is Code.DELAYED
        assert (await client.why(delayed.id)).notes == ()


async def test_runs_of_a_session_name_the_one_before_them(redis_url: str, client: AsyncClient):
    gate = Gate()
    async with working(app_at(redis_url, gate)):
        runs = [await client.enqueue("echo", LOOK, session_id="s") for _ in range(3)]
        await reason(client, runs[0].id, Code.RUNNING)
        found = await client.why(runs[2].id)
        assert found.code is Code.BEHIND
        assert found.details == {"behind": runs[0].id, "line_ahead": 1}
        assert found.because is not None
        assert found.because.code is Code.RUNNING
        gate.open.set()
        await runs[2].result(20)


async def test_a_run_behind_one_that_was_deleted_by_hand(client: AsyncClient, rq: redis.Redis):
    runs = [await client.enqueue("echo", "hello", session_id="s") for _ in range(2)]
    rq.delete(f"agentq:{{{runs[0].id}}}")
    assert (await client.why(runs[1].id)).code is Code.BEHIND_NOTHING


async def test_a_run_whose_agent_nobody_has(redis_url: str, client: AsyncClient):
    run = await client.enqueue("echo", "hello")
    async with working(app_at(redis_url, agent="other")):
        found = await reason(client, run.id, Code.UNSERVED)
        assert found.details["agent"] == "echo"
        async with working(app_at(redis_url)):
            await run.result(20)


async def test_a_run_whose_lease_expired(redis_url: str, client: AsyncClient, parts: Parts, stock: RQWorker):
    run = await client.enqueue("echo", "hello")
    assert await parts.store.claim([run.id], owner="gone", claim_id="c", lease_ms=300)
    missing = await client.why(run.id)
    assert missing.code in (Code.OWNER_MISSING, Code.NOT_SWEPT)  # a slow machine may be late
    assert "gone" in missing.text
    await reason(client, run.id, Code.NOT_SWEPT)
    await parts.store.sweep(lease_ms=300)
    assert (await reason(client, run.id, Code.LEASE_EXPIRED)).details["owner"] == "gone"
    async with working(app_at(redis_url)):
        await run.result(20)
    assert stock.name == "stock"


@pytest.mark.usefixtures("stock")
async def test_a_lost_wake_up_is_told_from_one_that_was_just_taken(client: AsyncClient, rq: redis.Redis, parts: Parts):
    run = await client.enqueue("echo", "hello")
    key = f"agentq:{{{run.id}}}"
    assert (await client.why(run.id)).code is Code.IN_LINE
    rq.delete(Queue("default", connection=rq).key)
    assert (await client.why(run.id)).code in (Code.WAKING, Code.NOT_SWEPT)
    rq.hset(key, "woken", int(rq.hget(key, "woken") or 0) - 5000)
    assert (await client.why(run.id)).code is Code.NOT_SWEPT
    rq.zadd("agentq:due", {run.id: 9_999_999_999_999})
    await parts.store.sweep(lease_ms=10_000)
    assert (await client.why(run.id)).code is Code.WAKEUP_LOST
    rq.zrem("agentq:due", run.id)
    found = await client.why(run.id)
    assert found.code is Code.STUCK
    assert found.fix == f"agentq cancel {run.id} ends it; then enqueue it again"
    assert await client.cancel(run.id) == "cancelled"


@pytest.mark.usefixtures("stock")
async def test_a_run_far_back_in_a_long_queue_costs_no_look_at_all_of_it(client: AsyncClient, rq: redis.Redis):
    queue = Queue("default", connection=rq).key
    rq.rpush(queue, *[f"job-{n}" for n in range(10_500)])
    run = await client.enqueue("echo", "hello")
    assert "more than 10000 wake-ups before it" in (await client.why(run.id)).text
    rq.ltrim(queue, 600, -1)
    assert (await client.why(run.id)).details["ahead"] == 9900


@pytest.mark.usefixtures("stock")
async def test_suspended_workers_and_data_of_a_newer_version(client: AsyncClient, rq: redis.Redis):
    run = await client.enqueue("echo", "hello")
    suspend(rq)
    assert (await client.why(run.id)).code is Code.SUSPENDED
    resume(rq)
    assert (await client.why(run.id)).code is Code.IN_LINE
    rq.hset(f"agentq:{{{run.id}}}", "version", SCHEMA_VERSION + 1)
    assert (await client.why(run.id)).code is Code.NEWER_VERSION


@asynccontextmanager
async def limited(rq: redis.Redis, url: str, *rules: str) -> AsyncIterator[AsyncClient]:
    """A client whose user may do everything but what `rules` take away."""
    rq.acl_setuser("guest", enabled=True, reset=True, passwords=["+secret"], keys=["*"], channels=["*"])
    rq.execute_command("ACL", "SETUSER", "guest", "+@all", *rules)
    try:
        async with client_at(url.replace("redis://", "redis://guest:secret@")) as made:
            yield made
    finally:
        rq.acl_deluser("guest")


async def test_what_redis_refuses_is_left_out_and_told(client: AsyncClient, rq: redis.Redis, redis_url: str):
    run = await client.enqueue("echo", "hello")
    async with limited(rq, redis_url, "-lpos") as guest:
        found = await guest.why(run.id)
    assert found.code is Code.DUE
    assert found.notes == ("this user of Redis may not use LPOS, so part of the picture is missing",)


async def test_redis_that_is_away():
    async with client_at("redis://127.0.0.1:1/0") as client:
        for asked in (client.why("01JD3ZK8W5Q0X9V7T2M4N6P8RA"), client.insight.workers(), client.insight.stats()):
            with pytest.raises(StoreUnavailable):
                await asked


async def test_a_run_that_a_stock_worker_holds_is_at_work(
    client: AsyncClient, parts: Parts, stock: RQWorker, rq: redis.Redis
):
    run = await client.enqueue("echo", "hello")
    await parts.store.claim([run.id], owner="of-a-job", claim_id="c", lease_ms=60_000)
    assert (await client.why(run.id)).code is Code.OWNER_MISSING
    rq.hset(stock.key, "state", "busy")
    found = await client.why(run.id)
    assert (found.code, found.details["owner"]) == (Code.RUNNING, "of-a-job")
    assert (
        found.notes[-1]
        == "it is not registered by that name; a stock rq worker is busy on the queue, most likely with it"
    )


def test_the_blocking_client_asks_too(redis_url: str):
    with Client(redis_url) as client:
        run = client.enqueue("echo", "hello", queue="slow")
        assert client.why(run.id).text == "no worker on queue slow"


# workers, queues, figures


async def test_workers_say_what_they_do(redis_url: str, client: AsyncClient, stock: RQWorker, rq: redis.Redis):
    gate = Gate()
    async with working(app_at(redis_url, gate), queues=["high", "default"], concurrency=3) as running:
        run = await client.enqueue("echo", LOOK)

        async def at_work() -> bool:
            return any(worker.in_flight == 1 for worker in await client.insight.workers())

        await wait_until(at_work)
        found = {worker.name: worker for worker in await client.insight.workers()}
        ours, theirs = found[running.worker.name], found[stock.name]
        assert (ours.queues, ours.state, ours.concurrency) == (("high", "default"), "busy", 3)
        assert (ours.agents, ours.version, ours.is_silent) == (("echo",), "0.1.0", False)
        assert abs(ours.started_ms - run_ms(run.id)) < 60_000
        assert (theirs.queues, theirs.in_flight, theirs.agents, theirs.is_agentq) == (("default",), None, None, False)
        assert not theirs.is_full

        rq.expire(f"rq:worker:{ours.name}", 40)
        (late,) = [worker for worker in await client.insight.workers() if worker.name == ours.name]
        assert late.is_silent
        gate.open.set()
        await run.result(20)
    stock.register_death()
    assert await client.insight.workers() == ()


def run_ms(run_id: str) -> int:
    """When a run id was made: its first ten digits, in base 32."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 0
    for digit in run_id[:10]:
        number = number * 32 + alphabet.index(digit)
    return number


async def test_a_killed_worker_that_is_still_in_rqs_set_is_left_out(
    client: AsyncClient, rq: redis.Redis, stock: RQWorker
):
    rq.delete(stock.key)
    assert await client.insight.workers() == ()


async def test_queues_tell_what_waits_since_when_and_what_failed(client: AsyncClient, rq: redis.Redis, stock: RQWorker):
    run = await client.enqueue("echo", "hello")
    await client.enqueue("echo", "hello")
    rq.hset(f"agentq:{{{run.id}}}", "woken", 1_700_000_000_000)
    foreign = Queue("other", connection=rq, serializer=JSONSerializer).enqueue("os.getcwd")
    rq.rpush(Queue("odd", connection=rq).key, "no such job")
    failed = FailedJobRegistry("default", connection=rq)
    rq.zadd(failed.key, {f"{run.id}-7": 9_999_999_999, "foreign": 9_999_999_999, "expired": 1})

    queues = {queue.name: queue for queue in await client.insight.queues()}
    # `odd` was pushed past RQ, which does not know it as a queue.
    assert set(queues) == {"default", "other"}
    assert (queues["default"].waiting, queues["default"].oldest_ms) == (2, 1_700_000_000_000)
    assert (queues["default"].failed, queues["default"].foreign) == (2, 1)
    assert queues["default"].workers == (stock.name,)
    assert queues["other"].workers == ()
    assert foreign.enqueued_at is not None
    assert queues["other"].oldest_ms == round(foreign.enqueued_at.timestamp() * 1000)


async def test_figures_count_runs_sessions_and_bytes(redis_url: str, client: AsyncClient):
    app = app_at(redis_url)
    async with working(app):
        for _ in range(2):
            await (await client.enqueue("echo", "hello", session_id="s")).result(20)
        waiting = [
            await client.enqueue("echo", "hello", delay=100),
            await client.enqueue("echo", "hello", queue="nobody"),
        ]

        stats = await client.insight.stats()
    assert {status: number for status, number in stats.runs.items() if number} == {"completed": 2, "queued": 2}
    assert (stats.sessions, stats.due) == (1, 2)
    # Ids of the same millisecond have no order.
    assert stats.oldest_queued in [(run.id, (await client.read(run.id)).created_ms) for run in waiting]
    assert stats.swept_ms is not None
    assert stats.memory is not None
    assert stats.memory.used > 0
    assert stats.kept_of == 2
    assert stats.kept_bytes is not None
    assert stats.kept_bytes > 500
    assert {queue.name: queue.waiting for queue in stats.queues} == {"default": 0, "nobody": 1}


async def test_figures_of_an_empty_redis_and_of_one_that_refuses_to_tell(
    client: AsyncClient, rq: redis.Redis, redis_url: str
):
    stats = await client.insight.stats()
    assert sum(stats.runs.values()) == stats.due == stats.sessions == 0
    assert (stats.oldest_queued, stats.swept_ms, stats.workers, stats.queues) == (None, None, (), ())
    async with limited(rq, redis_url, "-info", "-memory") as guest:
        assert (await guest.insight.stats()).memory is None


async def test_a_server_tells_of_itself_and_what_it_refuses(client: AsyncClient, rq: redis.Redis, redis_url: str):
    server = await client.insight.server()
    assert server.info["maxmemory_policy"] == "noeviction"
    assert server.config is not None
    assert "appendfsync" in server.config
    assert (server.round_trip_ms > 0, abs(server.ahead_ms) < 5000, server.cannot) == (True, True, {})
    async with limited(rq, redis_url, "-info", "-config", "-eval", "resetchannels") as guest:
        server = await guest.insight.server()
    assert (dict(server.info), server.config) == ({}, None)
    assert set(server.cannot) == {"scripts", "publish"}


# other stores, other executors


async def test_a_queue_on_another_redis_is_looked_at_there(redis_url: str):
    elsewhere = redis_url.replace("/0", "/1")
    connection = Connection(redis_url)
    store = RedisStore(connection)
    executor = QueueExecutor(store, queue_connection=Connection(elsewhere))
    async with AsyncClient(store=store, stream=redis_parts(Settings()).stream, executor=executor) as client:
        run = await client.enqueue("echo", "hello")
        assert (await client.why(run.id)).code is Code.NO_WORKER
        with redis.Redis.from_url(elsewhere) as rq:
            assert rq.llen(Queue("default", connection=rq).key) == 1
            RQWorker([Queue("default", connection=rq)], connection=rq, name="stock").register_birth()
        assert (await client.why(run.id)).code is Code.IN_LINE
    await store.aclose()
    await executor.connection.aclose()
    await connection.aclose()


class Somewhere:
    """An executor that names no workers."""

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        """Never."""


async def test_a_store_of_another_kind_answers_as_far_as_it_can():
    store = MemoryStore()
    async with AsyncClient(store=store, stream=store.stream, executor=Somewhere()) as client:
        run = await client.enqueue("echo", "hello", session_id="s")
        behind = await client.enqueue("echo", "hello", session_id="s")
        later = await client.enqueue("echo", "hello", delay=60)
        assert (await client.why(run.id)).code is Code.DUE
        assert (await client.why(behind.id)).code is Code.BEHIND
        assert (await client.why(later.id)).code is Code.DELAYED
        await store.claim([run.id], owner="me", claim_id="c", lease_ms=60_000)
        assert (await client.why(run.id)).code is Code.RUNNING
        found = await client.why(behind.id)
        assert found.because is not None
        assert (found.because.run_id, found.because.code) == (run.id, Code.RUNNING)
        assert await client.cancel(later.id) == "cancelled"
        assert (await client.why(later.id)).code is Code.CANCELLED
        for asked in (client.insight.workers, client.insight.queues, client.insight.stats, client.insight.server):
            with pytest.raises(InvalidInput, match="Redis and RQ"):
                await asked()


async def test_an_executor_that_names_workers_is_asked():
    class Named(Somewhere):
        names: tuple[str, ...] = ()

        async def workers(self, _queue: str) -> tuple[str, ...]:
            return self.names

    store, executor = MemoryStore(), Named()
    async with AsyncClient(store=store, stream=store.stream, executor=executor) as client:
        run = await client.enqueue("echo", "hello")
        insight: Any = Insight(store, executor)
        assert (await insight.why(run.id)).code is Code.NO_WORKER
        executor.names = ("lambda",)
        assert (await insight.why(run.id)).text == "it is due on queue default, which 1 worker serves"


async def test_a_run_that_moves_while_it_is_looked_at_is_never_said_to_need_help(redis_url: str, client: AsyncClient):
    async with working(app_at(redis_url), concurrency=2):
        runs = [await client.enqueue("echo", "call look {}\n" * 5 + "say done") for _ in range(5)]
        results = asyncio.gather(*[run.result(30) for run in runs], return_exceptions=True)
        while not results.done():
            for found in await asyncio.gather(*[client.why(run.id) for run in runs]):
                assert not found.needs_help, found
        await results
