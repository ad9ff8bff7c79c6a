"""What RQ sees of a worker, jobs on our queues that are not ours, and stock RQ workers on our jobs."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis
from rq import Queue
from rq import Worker as RQWorker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from tests.helpers import ROOT, wait_until
from tests.worker.harness import Gate, app_at, client_at, environment, working

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


async def test_a_stock_rq_worker_carries_a_run_to_its_answer(redis_url: str, client: AsyncClient, tmp_path: Path):
    run = await client.enqueue("echo", 'call note {"text": "one"}\ncall note {"text": "two"}\nsay $1, $2')
    options = ["--url", redis_url, "--burst", "-S", "json", "-w", "rq.worker.SimpleWorker", "default"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rq.cli",
        "worker",
        *options,
        cwd=ROOT,
        env=environment(redis_url, tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 50)
    assert (await run.result(1)).output == "one, two", said.decode()
    assert (tmp_path / "notes").read_text() == "one\ntwo\n"
