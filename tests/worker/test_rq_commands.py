"""What our worker does when RQ tells it something: suspend, resume, shut down, stop a job, kill the horse."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
from rq import Queue
from rq.command import (
    PUBSUB_CHANNEL_TEMPLATE,
    send_command,
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_job_command,
)
from rq.exceptions import NoSuchJobError
from rq.suspension import resume, suspend

from agentq.errors import RunCancelled
from agentq.runs import Status
from agentq.worker.executing import Executing
from tests.helpers import wait_until
from tests.unit._worker import ScriptedLoop, slots
from tests.worker import stock
from tests.worker.harness import Gate, app_at, client_at, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentq import AsyncClient


@pytest.fixture
def rq(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@pytest.fixture
def gate() -> Gate:
    return Gate()


def state_of(name: str, connection: Any) -> str:
    return str((connection.hget(f"rq:worker:{name}", "state") or b"").decode())


def due_of(run_id: str, connection: Any) -> float:
    """When the sweeper looks at a run: the end of its lease while it is held."""
    return float(connection.zscore("agentq:due", run_id) or 0)


def _is_later(than: float, run_id: str, connection: Any) -> bool:
    return due_of(run_id, connection) > than


def executing(connection: Any) -> int:
    """As `rq info` counts it."""
    return int(Queue("default", connection=connection).started_job_registry.count)


def warnings_in(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


async def test_a_suspended_worker_claims_nothing_more_and_goes_on_with_what_it_holds(
    redis_url: str, rq: Any, client: AsyncClient, gate: Gate, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    waiting = Queue("default", connection=rq)
    async with working(app_at(redis_url, gate)) as running:
        held = await client.enqueue("echo", "call look {}\nsay $1")
        await wait_until(lambda: gate.entered)
        assert "Suspending workers" in await stock.said(redis_url, tmp_path, "suspend")
        await wait_until(lambda: warnings_in(caplog, "suspended by `rq suspend`"))
        others = [await client.enqueue("echo", "hello") for _ in range(3)]
        # Several leases and many sweeps later the lease is alive, and each run waits with one wake-up.
        for _ in range(4):
            renewed = partial(_is_later, due_of(held.id, rq), held.id, rq)
            await wait_until(renewed)
        assert state_of(running.worker.name, rq) == "busy"
        assert waiting.count == 3
        gate.open.set()
        await wait_until(lambda: state_of(running.worker.name, rq) == "suspended")
        # The iteration was committed; its successor waits like the others.
        assert waiting.count == 4
        assert {await run.status() for run in (held, *others)} == {Status.QUEUED}
        assert f"{running.worker.name} " in (info := await stock.said(redis_url, tmp_path, "info"))
        assert "suspended default" in info
        assert "default      |████ 4, 0 executing" in info

        assert "Resuming workers" in await stock.said(redis_url, tmp_path, "resume")
        assert (await held.result(20)).output == "look passed"
        assert [(await run.result(20)).output for run in others] == ["hello"] * 3
        await wait_until(lambda: state_of(running.worker.name, rq) == "idle")
    assert warnings_in(caplog, "suspended by `rq suspend`: nothing new is claimed until `rq resume`; 1 iteration") == 1
    assert warnings_in(caplog, "resumed after") == 1


async def test_a_worker_that_starts_suspended_claims_once_the_time_is_over(
    redis_url: str, rq: Any, client: AsyncClient, caplog: pytest.LogCaptureFixture
):
    suspend(rq)
    run = await client.enqueue("echo", "hello")
    async with working(app_at(redis_url)) as running:
        await wait_until(lambda: state_of(running.worker.name, rq) == "suspended")
        assert (await run.status()) is Status.QUEUED
        suspend(rq, ttl=1)
        assert (await run.result(20)).output == "hello"
    assert warnings_in(caplog, "resumed after") == 1


async def test_a_burst_ends_when_suspended_as_one_of_rq_does(
    redis_url: str, rq: Any, client: AsyncClient, gate: Gate, caplog: pytest.LogCaptureFixture
):
    held = await client.enqueue("echo", "call look {}\nsay $1")
    async with working(app_at(redis_url, gate), burst=True) as running:
        await wait_until(lambda: gate.entered)
        suspend(rq)
        await wait_until(lambda: warnings_in(caplog, "suspended by `rq suspend`"))
        assert not running.task.done()
        gate.open.set()
        assert (await running.ended()).committed == 1
    assert warnings_in(caplog, "suspended during a burst") == 1
    assert (await held.status()) is Status.QUEUED
    resume(rq)
    async with working(app_at(redis_url, gate), burst=True) as running:
        await running.ended()
    assert (await held.result(1)).output == "look passed"


async def test_shutdown_is_a_warm_stop(redis_url: str, rq: Any, client: AsyncClient, gate: Gate):
    async with working(app_at(redis_url, gate)) as running, working(app_at(redis_url, gate)) as other:
        await wait_until(lambda: rq.pubsub_numsub(PUBSUB_CHANNEL_TEMPLATE % running.worker.name)[0][1])
        send_shutdown_command(rq, running.worker.name)
        await running.ended()
        assert not other.task.done()
        run = await client.enqueue("echo", "hello")
        assert (await run.result(20)).output == "hello"


async def test_stop_job_cancels_the_run_by_rqs_own_function(
    redis_url: str, rq: Any, client: AsyncClient, gate: Gate, tmp_path: Path
):
    async with working(app_at(redis_url, gate)) as running:
        run = await client.enqueue("echo", "call look {}\nsay $1")
        other = await client.enqueue("echo", 'call look {"name": "other"}\nsay $1')
        await wait_until(lambda: len(gate.entered) == 2)
        # Iterations show once they take long.
        await wait_until(lambda: executing(rq) == 2, message="RQ counts both")
        info = await stock.said(redis_url, tmp_path, "info", "--raw")
        assert "queue default 0, 2 executing, 0 finished, 0 failed" in info
        assert f"worker {running.worker.name} " in info
        send_stop_job_command(rq, f"{run.id}-1")
        with pytest.raises(RunCancelled, match="stopped by rq stop-job"):
            await run.result(20)
        await wait_until(lambda: executing(rq) == 1)
        with pytest.raises(NoSuchJobError):
            send_stop_job_command(rq, f"{run.id}-1")
        gate.open.set()
        assert (await other.result(20)).output == "other passed"
        await wait_until(lambda: not rq.keys("rq:job:*") and not rq.keys("rq:wip:*"))


async def test_a_worker_that_ends_or_is_killed_leaves_no_job_that_rq_calls_failed(
    redis_url: str, rq: Any, client: AsyncClient, gate: Gate
):
    async with working(app_at(redis_url, gate)) as running:
        run = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: rq.zcard("rq:wip:default"))
        ((entry, expires),) = rq.zrange("rq:wip:default", 0, -1, withscores=True)
        assert entry.decode().partition(":")[0] == f"{run.id}-1"
        # If nobody refreshes them, the hash is gone before RQ looks for it.
        assert 0 < rq.ttl(f"rq:job:{run.id}-1") < expires - rq.time()[0]
        await running.stopped()
    assert rq.keys("rq:wip:*") == []
    assert rq.lrange("rq:queue:default", 0, -1) == [f"{run.id}-2".encode()]
    assert rq.keys("rq:job:*") == [f"rq:job:{run.id}-2".encode()]


async def test_what_cannot_be_followed_is_said_once_and_harms_nothing(
    redis_url: str, rq: Any, client: AsyncClient, gate: Gate, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    async with working(app_at(redis_url, gate)) as running:
        name = running.worker.name
        channel = PUBSUB_CHANNEL_TEMPLATE % name
        await wait_until(lambda: rq.pubsub_numsub(channel)[0][1])
        run = await client.enqueue("echo", "call look {}\nsay $1")
        await wait_until(lambda: gate.entered)
        for _ in range(3):
            send_kill_horse_command(rq, name)
            send_command(rq, name, "dance")
            send_command(rq, name, "stop-job")
            for garbage in (b"", b"\xff\xfe", b"[" * 100_000, b"5", b'{"command": 7}', b'["shutdown"]'):
                rq.publish(channel, garbage)
        not_here = ("no-such", run.id, f"{run.id}-", f"{run.id}-²", "01KD0000000000000000000000-1", "x" * 100_000)
        # Commands are heard in order: once the last one is, all others were.
        for job_id in (*not_here, "the-last"):
            send_command(rq, name, "stop-job", job_id=job_id)
        await wait_until(lambda: "job the-last is not in flight here" in caplog.text)
        gate.open.set()
        assert (await run.result(20)).output == "look passed"
    assert warnings_in(caplog, "kill-horse command ignored") == 1
    assert warnings_in(caplog, "'dance' ignored") == 1
    assert warnings_in(caplog, "'stop-job' ignored") == 1
    assert warnings_in(caplog, "is no command") == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_commands_are_heard_after_the_connection_was_lost(redis_url: str, rq: Any):
    async with working(app_at(redis_url)) as running:
        channel = PUBSUB_CHANNEL_TEMPLATE % running.worker.name
        await wait_until(lambda: rq.pubsub_numsub(channel)[0][1])
        lost = {client["id"] for client in rq.client_list("pubsub")}
        assert rq.client_kill_filter(_type="pubsub") == 1
        await wait_until(lambda: {client["id"] for client in rq.client_list("pubsub")} - lost)
        await wait_until(lambda: rq.pubsub_numsub(channel)[0][1])
        send_shutdown_command(rq, running.worker.name)
        await running.ended()


def test_entries_of_killed_workers_are_taken_away_and_those_of_others_are_rqs(redis_url: str):
    now = time.time()
    with redis.Redis.from_url(redis_url) as rq:
        ours, live = "01JD3ZK8W5Q0X9V7T2M4N6P8RA-1:3", "01JD3ZK8W5Q0X9V7T2M4N6P8RB-2:1"
        rq.zadd("rq:wip:default", {ours: now - 5, live: now + 60, "somebody-elses-job:1": now - 5})
        Executing(slots(ScriptedLoop())).forget_dead(rq, ["default", "other"])
        assert set(rq.zrange("rq:wip:default", 0, -1)) == {live.encode(), b"somebody-elses-job:1"}
