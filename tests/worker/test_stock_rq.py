"""Stock `rq worker` processes on our queue: they carry runs to the end, and what they cannot do harms no run."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from agentq.errors import RunCancelled, UnknownAgent
from agentq.executors.queue import JOB_FUNCTION
from agentq.runs import Status
from tests.helpers import wait_until
from tests.worker import stock
from tests.worker.harness import client_at, worker_process
from tests.worker.stock import FORKING, SIMPLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentq import AsyncClient

JSON = ("-S", "json")
both = pytest.mark.parametrize("kind", [FORKING, SIMPLE], ids=["forking", "simple"])


@pytest.fixture
def rq(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


def leftovers(connection: redis.Redis) -> set[str]:
    """What RQ still holds of jobs."""
    kept = {key.decode() for key in connection.scan_iter("rq:*")}
    return {key for key in kept if not key.startswith(("rq:worker", "rq:queues", "rq:clean"))}


def failed(connection: redis.Redis) -> dict[str, str]:
    """The failed jobs of the queue and why they failed."""
    found = {}
    for job_id in FailedJobRegistry(queue=Queue("default", connection=connection)).get_job_ids():
        result = Job.fetch(job_id, connection=connection, serializer=JSONSerializer).latest_result()
        assert result is not None
        found[job_id] = result.exc_string or ""
    return found


def lines_in(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


@both
async def test_it_works_a_queue_to_the_end_and_leaves_nothing_of_its_jobs(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, kind: tuple[str, ...]
):
    tools = await client.enqueue("echo", 'call note {"text": "one"} & call note {"text": "two"}\nsay $1, $2')
    first = await client.enqueue("echo", 'call note {"text": "first"}\nsay $1', session_id="s")
    second = await client.enqueue("echo", 'call note {"text": "second"}\nsay $1', session_id="s")
    # The last to move: nothing else is in the queue while it waits to be tried again.
    retried = await client.enqueue("echo", "fail 503\nfail 503\nsay at last")
    said = await stock.said(redis_url, tmp_path, "worker", "--burst", *JSON, *kind, "default")
    outputs = [(await run.result(1)).output for run in (tools, first, second, retried)]
    assert outputs == ["one, two", "first", "second", "at last"], said
    notes = lines_in(tmp_path / "notes")
    assert sorted(notes) == ["first", "one", "second", "two"]
    assert notes.index("first") < notes.index("second")
    assert leftovers(rq) == set()


async def test_it_publishes_its_agents(redis_url: str, client: AsyncClient, tmp_path: Path):
    run = await client.enqueue("echo", "hello")
    said = await stock.said(redis_url, tmp_path, "worker", "--burst", *JSON, *SIMPLE, "default")
    assert (await run.result(1)).output == "hello", said
    async with client_at(redis_url) as other:
        with pytest.raises(UnknownAgent, match="echo"):
            await other.enqueue("ecko", "hello")


@both
async def test_a_cancel_ends_the_tool_and_the_worker_goes_on(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, kind: tuple[str, ...]
):
    async with stock.rq(redis_url, tmp_path, "worker", *JSON, *kind, "default") as worker:
        run = await client.enqueue("echo", "call look {}\nsay $1")
        await wait_until(lambda: lines_in(tmp_path / "notes"), 30, "the tool has begun")
        await run.cancel(reason="enough")
        with pytest.raises(RunCancelled):
            await run.result(20)
        after = await client.enqueue("echo", "still here")
        assert (await after.result(20)).output == "still here", worker.said
        await wait_until(lambda: leftovers(rq) == set(), message=f"{leftovers(rq)}")


async def test_our_worker_recovers_the_run_of_one_that_was_killed(redis_url: str, client: AsyncClient, tmp_path: Path):
    run = await client.enqueue("echo", "call hang {}\nsay $1")
    async with stock.rq(redis_url, tmp_path, "worker", *JSON, *SIMPLE, "default") as worker:
        await wait_until(lambda: lines_in(tmp_path / "notes"), 30, "the tool has begun")
        worker.process.kill()
        await worker.ended()
    with worker_process(redis_url, tmp_path) as ours:
        assert (await run.result(30)).output == str(ours.pid)
    assert len(lines_in(tmp_path / "notes")) == 2


async def test_another_stock_worker_recovers_it_while_a_job_of_it_stays_up(
    redis_url: str, client: AsyncClient, tmp_path: Path
):
    run = await client.enqueue("echo", "call hang {}\nsay $1")
    async with stock.rq(redis_url, tmp_path, "worker", *JSON, *SIMPLE, "default") as killed:
        await wait_until(lambda: lines_in(tmp_path / "notes"), 30, "the tool has begun")
        async with stock.rq(redis_url, tmp_path, "worker", *JSON, *SIMPLE, "default") as other:
            short = await client.enqueue("echo", "hello")
            assert (await short.result(30)).output == "hello"
            killed.process.kill()
            await killed.ended()
            assert (await run.result(30)).output == str(other.process.pid)


async def test_a_killed_work_horse_is_a_crash_that_costs_no_run(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path
):
    run = await client.enqueue("echo", "call hang {}\nsay it came back")
    async with stock.rq(redis_url, tmp_path, "worker", *JSON, "default"):
        (line,) = await wait_until(lambda: lines_in(tmp_path / "notes"), 30, "the tool has begun")
        os.kill(int(line.split()[1]), signal.SIGKILL)
        await wait_until(lambda: "Work-horse terminated unexpectedly" in "".join(failed(rq).values()))
        # Nobody sweeps here until a job does.
        other = await client.enqueue("echo", "hello")
        assert (await other.result(30)).output == "hello"
        assert (await run.result(30)).output == "it came back"


async def test_one_that_waits_for_a_delay_takes_a_new_job_at_once_and_stops_when_asked(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path
):
    options = ("worker", *JSON, *SIMPLE, "default")
    async with stock.rq(redis_url, tmp_path, *options, WORKER_TEST_BACKOFF_S="100") as worker:
        delayed = await client.enqueue("echo", "fail 503\nsay late")
        await wait_until(lambda: rq.hget(f"agentq:{{{delayed.id}}}", "errors") == b"1", 30)
        new = await client.enqueue("echo", "hello")
        assert (await new.result(20)).output == "hello"
        assert worker.process.poll() is None
        worker.process.terminate()
        said = await worker.ended()
        assert worker.process.poll() == 0, said
        assert (await delayed.status()) is Status.QUEUED


@both
async def test_with_the_pickle_serializer_it_says_what_it_needs_and_loses_nothing(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, kind: tuple[str, ...]
):
    run = await client.enqueue("echo", 'call note {"text": "one"}\nsay $1')
    said = await stock.said(redis_url, tmp_path, "worker", "--burst", *kind, "default")
    assert f"continue run {run.id} (an rq worker needs --serializer json)" in said
    assert "DeserializationError" in failed(rq)[f"{run.id}-1"]
    assert (await run.status()) is Status.QUEUED
    with worker_process(redis_url, tmp_path):
        assert (await run.result(30)).output == "one"


@both
async def test_without_the_app_it_names_the_variable_and_loses_nothing(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, kind: tuple[str, ...]
):
    run = await client.enqueue("echo", "hello")
    await stock.said(redis_url, tmp_path, "worker", "--burst", *JSON, *kind, "default", AGENTQ_APP="nowhere.app:app")
    why = failed(rq)[f"{run.id}-1"].splitlines()[-1]
    assert "there is no module 'nowhere'" in why
    assert "AGENTQ_APP" in why
    assert (await run.status()) is Status.QUEUED
    with worker_process(redis_url, tmp_path):
        assert (await run.result(30)).output == "hello"


async def test_the_app_is_found_in_the_current_directory(redis_url: str, client: AsyncClient, tmp_path: Path):
    (tmp_path / "shop.py").write_text('from agentq import Agent, AgentQ\napp = AgentQ([Agent("clerk")])\n')
    run = await client.enqueue("clerk", "hello")
    options = ("worker", "--burst", *JSON, *SIMPLE, "default")
    said = await stock.said(redis_url, tmp_path, *options, AGENTQ_APP="shop:app", PWD=str(tmp_path))
    assert (await run.result(1)).output == "hello", said


async def test_a_redis_url_that_is_not_the_queues_fails_the_job_and_names_both(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path
):
    run = await client.enqueue("echo", "hello")
    elsewhere = redis_url.removesuffix("/0") + "/5"
    options = ("worker", "--burst", "--url", redis_url, *JSON, *SIMPLE, "default")
    await stock.said(redis_url, tmp_path, *options, REDIS_URL=elsewhere)
    why = failed(rq)[f"{run.id}-1"].splitlines()[-1]
    assert f"run {run.id} is not in the Redis at" in why
    assert "set REDIS_URL to the Redis that `rq worker` works on" in why
    assert (await run.status()) is Status.QUEUED


@both
async def test_wrong_arguments_are_refused_and_the_next_job_is_run(
    redis_url: str, rq: redis.Redis, client: AsyncClient, tmp_path: Path, kind: tuple[str, ...]
):
    queue = Queue("default", connection=rq, serializer=JSONSerializer)
    refused = {
        queue.enqueue(JOB_FUNCTION, "no-run").id: "ForeignJob: 'no-run' is not the id of a run",
        queue.enqueue(JOB_FUNCTION, {"run": 1}).id: "ForeignJob: {'run': 1} is not the id of a run",
        queue.enqueue(JOB_FUNCTION, "x" * 5_000_000).id: "is not the id of a run",
        queue.enqueue(JOB_FUNCTION, "01KD0000000000000000000000", "drop").id: "says 'continue', not 'drop'",
        queue.enqueue(JOB_FUNCTION).id: "missing 1 required positional argument: 'run_id'",
    }
    run = await client.enqueue("echo", "hello")
    said = await stock.said(redis_url, tmp_path, "worker", "--burst", *JSON, *kind, "default")
    assert (await run.result(1)).output == "hello", said[-2000:]
    why = failed(rq)
    assert why.keys() == refused.keys()
    for job_id, words in refused.items():
        last = why[job_id].splitlines()[-1]
        assert words in last
        assert len(last) < 300
