"""What RQ sees of our worker, and jobs on our queues that are not ours."""

from __future__ import annotations

import logging
import os
import random
import re
import time
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import redis
from rq import Queue
from rq import Worker as RQWorker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from agentq.executors.queue import JOB_FUNCTION
from agentq.runs import Status
from agentq.settings import Settings
from agentq.wiring import redis_parts
from agentq.worker import executing
from tests.helpers import wait_until
from tests.worker import stock
from tests.worker.harness import Gate, app_at, client_at, worker_process, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from rq.worker import BaseWorker

    from agentq import AsyncClient


@pytest.fixture
def rq(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


def seen_by(connection: redis.Redis) -> dict[str, BaseWorker]:
    return {worker.name: worker for worker in RQWorker.all(connection=connection)}


async def test_rq_shows_the_worker_until_it_ends(redis_url: str, rq: redis.Redis, client: AsyncClient):
    gate = Gate()
    app = app_at(redis_url, gate)
    async with working(app, queues=["high", "default"]) as first, working(app) as second:
        names = {first.worker.name, second.worker.name}
        await wait_until(lambda: set(seen_by(rq)) == names)
        assert seen_by(rq)[first.worker.name].queue_names() == ["high", "default"]
        assert {worker.name for worker in RQWorker.all(queue=Queue("high", connection=rq))} == {first.worker.name}
        assert await wait_until(lambda: {worker.get_state() for worker in seen_by(rq).values()} == {"idle"})
        await second.stopped()
        assert set(seen_by(rq)) == {first.worker.name}
        run = await client.enqueue("echo", "call look {}\nsay done")
        await wait_until(lambda: seen_by(rq)[first.worker.name].get_state() == "busy")
        gate.open.set()
        await run.result(20)
        await wait_until(lambda: seen_by(rq)[first.worker.name].successful_job_count == 2)
        await wait_until(lambda: seen_by(rq)[first.worker.name].get_state() == "idle")
        worker = seen_by(rq)[first.worker.name]
        assert worker.failed_job_count == 0
        assert worker.last_heartbeat is not None
        assert 30 < rq.ttl(worker.key) <= 90
    assert seen_by(rq) == {}


async def test_jobs_that_are_not_ours_are_failed_unread_and_harm_no_other(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    touched = tmp_path / "touched"
    before = await client.enqueue("echo", "hello")
    plain = Queue("default", connection=rq, serializer=JSONSerializer).enqueue("os.mkdir", str(touched))
    pickled = Queue("default", connection=rq).enqueue("os.mkdir", str(touched))
    for rubbish in ("no-such-job", "with blank", "X" * 300, '{"run": 1}'):
        rq.rpush(Queue("default", connection=rq).key, rubbish)
    after = await client.enqueue("echo", "hello again")

    async with working(app_at(redis_url)) as running:
        assert (await before.result(20)).output == "hello"
        assert (await after.result(20)).output == "hello again"
        failed = FailedJobRegistry(queue=Queue("default", connection=rq))
        assert await wait_until(lambda: set(failed.get_job_ids()) == {plain.id, pickled.id})
        await running.stopped()

    assert not touched.exists()
    said = {job_id: _failure(job_id, rq) for job_id in (plain.id, pickled.id)}
    assert f"job {plain.id} on queue default calls 'os.mkdir', which is not a wake-up" in said[plain.id]
    assert f"job {pickled.id} on queue default is a pickled job described as 'os.mkdir'" in said[pickled.id]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("is not a wake-up of agentq" in line for line in errors) == 2
    assert sum("neither a wake-up of agentq nor an RQ job; it is dropped" in line for line in errors) == 4
    assert len(errors) == 6
    for key in (plain.key, pickled.key):
        assert 86_000 < rq.ttl(key) <= 86_400


async def test_a_worker_forgets_refused_jobs_whose_day_has_passed(
    redis_url: str, rq: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentq.worker.registration._HEARTBEAT_S", 0.0)
    failed = FailedJobRegistry(queue=Queue("default", connection=rq))
    rq.zadd(failed.key, {"yesterday's": time.time() - 1, "today's": time.time() + 3_600})
    async with working(app_at(redis_url)):
        await wait_until(lambda: rq.zrange(failed.key, 0, -1) == [b"today's"])


def _failure(job_id: str, connection: redis.Redis) -> str:
    job = Job.fetch(job_id, connection=connection, serializer=JSONSerializer)
    assert job.get_status() is JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    assert result.exc_string is not None
    return result.exc_string


async def test_a_forged_hash_is_dropped_with_a_line(
    redis_url: str, rq: redis.Redis, client: AsyncClient, caplog: pytest.LogCaptureFixture
):
    queue = Queue("default", connection=rq)
    rq.hset(f"{Job.redis_job_namespace_prefix}forged", mapping={"data": b"x", "status": "nonsense"})
    rq.set(f"{Job.redis_job_namespace_prefix}text", "not a hash")
    rq.rpush(queue.key, "forged", "text")
    async with working(app_at(redis_url)):
        run = await client.enqueue("echo", "hello")
        assert (await run.result(20)).output == "hello"
    assert "job 'forged' is not a wake-up of agentq and cannot be read; it is dropped" in caplog.text
    assert "'text' on a queue is neither a wake-up of agentq nor an RQ job" in caplog.text


async def test_large_and_odd_jobs_are_refused_without_being_read_whole(
    redis_url: str, rq: redis.Redis, client: AsyncClient, caplog: pytest.LogCaptureFixture
):
    queue = Queue("default", connection=rq, serializer=JSONSerializer)
    large = queue.enqueue("os.getenv", _noise(3_000_000))
    unpacks = queue.enqueue("os.getenv", "x" * 50_000_000)
    described = queue.enqueue("os.getenv", "HOME", description="x" * 3_000_000)
    deep = _job_with(b"[" * 100_000 + b"]" * 100_000, rq)
    _job_with(b"[1]", rq, job_id="many", **{f"field{number}": "x" for number in range(1_000)})
    rq.rpush(queue.key, "x" * 3_000_000, b"\xff\xfe")
    run = await client.enqueue("echo", "hello")
    async with working(app_at(redis_url)) as running:
        assert (await run.result(20)).output == "hello"
        await running.stopped()
    for job in (large, unpacks):
        assert f"job {job.id} on queue default is larger than 1000000 bytes" in _failure(job.id, rq)
    assert "calls 'os.getenv', which is not a wake-up" in _failure(described.id, rq)
    assert "calls nothing that has a name" in _failure(deep, rq)
    # What was refused is kept as it was, for whoever wants to run it elsewhere.
    assert Job.fetch(large.id, connection=rq, serializer=JSONSerializer).args == list(large.args)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("is neither" in line or "on a queue is neither" in line for line in errors) == 3
    assert len(errors) == 7
    assert max(len(line) for line in errors) < 500


async def test_our_function_under_an_id_that_is_no_wake_up_is_refused(
    redis_url: str, rq: redis.Redis, client: AsyncClient
):
    run = await client.enqueue("echo", "hello", delay=100)
    queue = Queue("default", connection=rq, serializer=JSONSerializer)
    jobs = [queue.enqueue(JOB_FUNCTION, *arguments) for arguments in ((), ("no-run",), (run.id, "continue"))]
    async with working(app_at(redis_url)):
        failed = FailedJobRegistry(queue=queue)
        await wait_until(lambda: len(failed.get_job_ids()) == len(jobs))
    for job in jobs:
        assert "its id is not that of a wake-up; nothing of it was run" in _failure(job.id, rq)
    assert (await run.status()) is Status.QUEUED


def _noise(size: int) -> str:
    """Text that does not compress."""
    return random.Random(1).randbytes(size // 2).hex()


def _job_with(data: bytes, connection: redis.Redis, *, job_id: str = "odd", **fields: str) -> str:
    """An RQ job on the queue with this data."""
    created = utcformat(datetime.now(UTC))
    values: dict[Any, Any] = {"data": zlib.compress(data), "origin": "default", "status": "queued", **fields}
    connection.hset(f"{Job.redis_job_namespace_prefix}{job_id}", mapping=values | {"created_at": created})
    connection.rpush(Queue("default", connection=connection).key, job_id)
    return job_id


async def test_what_rq_is_shown_of_a_long_iteration_costs_no_wake_up(
    redis_url: str, rq: redis.Redis, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """It is shown under the number of the newest wake-up, which may be in line yet; what comes next has another."""
    monkeypatch.setattr(executing, "_LONG_S", 0.0)
    gate, queue = Gate(), Queue("default", connection=rq)
    run = await client.enqueue("echo", "call look {}\nsay done")
    parts = redis_parts(Settings(redis_url=redis_url))
    # As where the first one seemed lost.
    await parts.executor.schedule_next_iteration(run.id)
    await parts.aclose()
    async with working(app_at(redis_url, gate), concurrency=1):
        shown = f"{Job.redis_job_namespace_prefix}{run.id}-2"
        await wait_until(lambda: rq.hget(shown, "status") == b"started")
        assert rq.lrange(queue.key, 0, -1) == [f"{run.id}-2".encode()]
        gate.open.set()
        assert (await run.result(20)).output == "done"
        assert await wait_until(lambda: not rq.keys(f"{Job.redis_job_namespace_prefix}*"))


async def test_rq_info_shows_workers_queues_and_counts(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path
):
    async def info(*arguments: str) -> str:
        return await stock.said(redis_url, tmp_path, "info", *arguments)

    nothing = await info()
    assert "0 queues, 0 jobs total" in nothing
    assert "0 workers, 0 queues" in nothing

    app = app_at(redis_url)
    async with working(app, queues=["high", "default"]) as first, working(app, queues=["low"]) as second:
        names = first.worker.name, second.worker.name
        await wait_until(lambda: set(seen_by(rq)) == set(names))
        assert "2 workers, 0 queues" in await info()
        run = await client.enqueue("echo", "hello")
        await run.result(20)
        await wait_until(lambda: seen_by(rq)[names[0]].successful_job_count == 1)
        one = await info()
        assert "default      | 0, 0 executing, 0 finished, 0 failed" in one
        whole = rf"{names[0]} \(\S+ 127.0.0.1:\d+ {os.getpid()}\): idle high, default. jobs: 1 finished, 0 failed"
        assert re.search(whole, one)
        # As with any worker, those of queues that were never used show once they are named.
        assert names[1] not in one
        await client.enqueue("echo", "hello", queue="elsewhere")
        named = await info("--raw", "default", "low", "elsewhere")
        assert "queue elsewhere 1, 0 executing, 0 finished, 0 failed" in named
        assert "queue low 0, 0 executing" in named
        assert f"worker {names[1]} " in named
        assert f"worker {names[0]} " in named


async def test_a_killed_worker_is_gone_from_rq_when_its_record_runs_out(
    redis_url: str, rq: redis.Redis, tmp_path: Path
):
    with worker_process(redis_url, tmp_path) as process:
        (name,) = await wait_until(lambda: seen_by(rq), 30)
        process.kill()
        process.wait()
    assert name in await stock.said(redis_url, tmp_path, "info", "default")
    key = f"{RQWorker.redis_worker_namespace_prefix}{name}"
    assert 0 < rq.ttl(key) <= 90
    rq.pexpire(key, 1)
    await wait_until(lambda: not rq.exists(key))
    assert "0 workers" in await stock.said(redis_url, tmp_path, "info", "default")
    assert rq.smembers("rq:workers") == rq.smembers("rq:workers:default") == set()
