"""The worker over a real Redis: claiming, waiting, order, cancel, recovery, outages."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agentq import RunCancelled, tool
from agentq.errors import RunAlreadyFinished
from agentq.runs import Status
from agentq.wiring import redis_parts
from agentq.worker import Worker
from tests.helpers import wait_until
from tests.worker.harness import LEASE_MS, Gate, app_at, client_at, worker_process, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentq import AsyncClient
    from tests._redis_server import RedisServer


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with client_at(redis_url) as made:
        yield made


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_a_run_goes_from_prompt_to_answer(redis_url: str, gate: Gate, client: AsyncClient):
    gate.open.set()
    async with working(app_at(redis_url, gate)) as running:
        run = await client.enqueue("echo", "call look {} & call put {}\nsay $1, $2")
        assert (await run.result(20)).output == "look passed, put passed"
        report = await running.stopped()
    assert (report.committed, report.released, report.lost, report.failed, report.tools) == (2, 0, 0, 0, 2)


async def test_workers_publish_their_agents(redis_url: str):
    parts = redis_parts(app_at(redis_url).settings)
    try:
        async with working(app_at(redis_url)):
            assert "echo" in await wait_until(parts.store.known_agents)
    finally:
        await parts.aclose()


async def test_no_more_run_at_once_than_there_are_slots(redis_url: str, gate: Gate, client: AsyncClient):
    runs = [await client.enqueue("echo", "call look {}\nsay done") for _ in range(7)]
    async with working(app_at(redis_url, gate), concurrency=3):
        await wait_until(lambda: len(gate.entered) == 3)
        gate.open.set()
        for run in runs:
            await run.result(20)
    assert gate.most_running == 3


async def test_the_first_queue_goes_first(redis_url: str, gate: Gate, client: AsyncClient):
    gate.open.set()
    runs = [
        await client.enqueue("echo", f'call look {{"name": "{queue}"}}\nsay done', queue=queue)
        for queue in ("low", "high", "low", "high")
    ]
    async with working(app_at(redis_url, gate), queues=["high", "low"], concurrency=1):
        for run in runs:
            await run.result(20)
    assert gate.entered == ["high", "high", "low", "low"]


async def test_runs_of_agents_that_a_worker_has_not_are_left_to_others(redis_url: str, client: AsyncClient):
    theirs = await client.enqueue("echo", "hello")
    ours = await client.enqueue("other", "hello")
    async with working(app_at(redis_url, agent="other")):
        await ours.result(20)
        assert await theirs.status() is Status.QUEUED
        async with working(app_at(redis_url)):
            assert (await theirs.result(20)).output == "hello"


async def test_a_cancel_reaches_a_reading_tool_at_once(redis_url: str, gate: Gate, client: AsyncClient):
    async with working(app_at(redis_url, gate, lease_ms=60_000)):
        run = await client.enqueue("echo", "call look {}\nsay done")
        await wait_until(lambda: gate.entered)
        await run.cancel(reason="changed my mind")
        # Renewal would tell only after 20 s.
        with pytest.raises(RunCancelled):
            await run.result(10)
        assert gate.running == 0


@pytest.mark.parametrize("blocks", ["a thread", "the event loop"])
async def test_a_blocking_tool_keeps_its_lease(redis_url: str, blocks: str, client: AsyncClient):
    calls: list[float] = []

    def block() -> None:
        calls.append(time.monotonic())
        time.sleep(2.0)

    @tool(effect="idempotent")
    def in_thread() -> str:
        """Block a thread."""
        block()
        return "done"

    @tool(effect="idempotent")
    async def in_loop() -> str:
        """Block the event loop."""
        block()
        return "done"

    name = "in_thread" if blocks == "a thread" else "in_loop"
    app = app_at(redis_url, tools=[in_thread, in_loop], lease_ms=600)
    with SweepingThread(redis_url):
        async with working(app):
            run = await client.enqueue("echo", f"call {name} {{}}\nsay $1")
            assert (await run.result(20)).output == "done"
    assert len(calls) == 1
    assert "run.recovered" not in [event.type async for event in run.events(live=False)]


class SweepingThread:
    """A worker of another queue in a thread: it sweeps while the event loop of the test is blocked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None

    async def _main(self) -> None:
        self._worker = Worker(app_at(self._url, lease_ms=600), queues=["other"])
        self._loop = asyncio.get_running_loop()
        await self._worker.run()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._worker is not None
        self._loop.call_soon_threadsafe(self._worker.stop_now)
        self._thread.join(20)


async def test_a_killed_worker_is_recovered_and_finished_tools_are_not_repeated(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: AsyncClient
):
    from tests.worker import app as module

    monkeypatch.setattr(module, "FOLDER", tmp_path)
    notes = tmp_path / "notes"
    with worker_process(redis_url, tmp_path) as process:
        run = await client.enqueue("echo", 'call note {"text": "first"} & call hang {}\nsay done')
        await wait_until(lambda: notes.exists() and "hang" in notes.read_text(), 30)
        process.kill()
    app = app_at(redis_url, tools=[module.note, module.hang])
    async with working(app):
        assert (await run.result(20)).output == "done"
    lines = notes.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["first", "hang", "hang"]
    assert len(set(lines)) == 3


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a worker logs at the usual level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


async def test_a_worker_that_starts_before_redis_says_so_once_and_waits(
    server: RedisServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, logger="agentq")
    server.kill()
    async with working(app_at(server.url)) as running, client_at(server.url) as client:
        await wait_until(lambda: caplog.text.count("no Redis yet") > 5)
        assert not running.task.done()
        [away] = said(caplog)
        assert "is away; waiting" in away
        server.start()
        run = await client.enqueue("echo", "hello")
        assert (await run.result(20)).output == "hello"
        await wait_until(lambda: "is back after" in caplog.text)
        await wait_until(lambda: "100 slots" in caplog.text)
    assert caplog.text.count("is away; waiting") == 1
    assert caplog.text.count("100 slots") == 1


async def test_an_outage_is_two_lines_and_not_one_for_each_try(server: RedisServer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger="agentq")
    async with working(app_at(server.url)):
        # The client is gone before the outage: it has a pub/sub connection of its own to lose.
        async with client_at(server.url) as client:
            run = await client.enqueue("echo", "hello")
            await run.result(20)
        await wait_until(lambda: "committed" in caplog.text)
        caplog.clear()
        server.kill()
        await wait_until(lambda: caplog.text.count("no pub/sub connection") > 5)
        where = server.url.removeprefix("redis://").partition("/")[0]
        lost, away = sorted(said(caplog), reverse=True)
        assert lost == f"pub/sub connection to {where}/0 lost; connecting again"
        assert away.startswith(f"Redis at {where}/0 is away; waiting")
        server.start()
        await wait_until(lambda: "is back after" in caplog.text)


async def test_nothing_is_lost_when_redis_restarts(server: RedisServer, gate: Gate, caplog: pytest.LogCaptureFixture):
    async with working(app_at(server.url, gate)) as running, client_at(server.url) as client:
        inflight = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: gate.entered)
        server.kill()
        await wait_until(lambda: "is away; waiting" in caplog.text)
        server.start()
        gate.open.set()
        assert (await inflight.result(20)).output == "put passed"
        later = await client.enqueue("echo", "hello")
        assert (await later.result(20)).output == "hello"
        report = await running.stopped()
    assert gate.entered == ["put"]
    assert (report.lost, report.failed) == (0, 0)
    assert caplog.text.count("is away; waiting") == caplog.text.count("is back after") == 1


async def test_a_stop_while_redis_is_away_ends_soon(server: RedisServer, gate: Gate):
    async with working(app_at(server.url, gate)) as running, client_at(server.url) as client:
        run = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: gate.entered)
        server.kill()
        report = await running.stopped()
        assert (report.committed, report.released) == (0, 0)
        server.start()
        gate.open.set()
        async with working(app_at(server.url, gate)):
            assert (await run.result(20)).output == "put passed"


async def test_a_burst_ends_when_all_is_done(redis_url: str, gate: Gate, client: AsyncClient):
    gate.open.set()
    runs = [await client.enqueue("echo", "call look {}\nsay done") for _ in range(150)]
    async with working(app_at(redis_url, gate), burst=True) as running:
        report = await running.ended()
    assert report.committed == 300
    assert {await run.status() for run in runs} == {Status.COMPLETED}


async def test_a_burst_with_nothing_to_do_ends(redis_url: str):
    async with working(app_at(redis_url), burst=True) as running:
        assert (await running.ended()).committed == 0


async def test_a_burst_waits_for_its_own_run_that_backs_off(redis_url: str, client: AsyncClient):
    run = await client.enqueue("echo", "fail 503\nsay done")
    async with working(app_at(redis_url), burst=True) as running:
        report = await running.ended()
    assert await run.status() is Status.COMPLETED
    assert report.committed == 2


async def test_a_redis_that_hangs_longer_than_a_lease_costs_no_run_and_repeats_no_tool(server: RedisServer, gate: Gate):
    async with working(app_at(server.url, gate)) as running, client_at(server.url) as client:
        run = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: gate.entered)
        server.pause()
        await asyncio.sleep(2 * LEASE_MS / 1000)
        server.resume()
        gate.open.set()
        assert (await run.result(20)).output == "put passed"
        report = await running.stopped()
    assert gate.entered == ["put"]
    assert (report.committed, report.lost, report.failed) == (2, 0, 0)


async def test_a_hanging_redis_does_not_hold_up_a_stop_at_once(server: RedisServer, gate: Gate):
    async with working(app_at(server.url, gate)) as running, client_at(server.url) as client:
        run = await client.enqueue("echo", "call put {}\nsay $1")
        await wait_until(lambda: gate.entered)
        server.pause()
        running.worker.stop_now()
        try:
            await asyncio.wait_for(asyncio.shield(running.task), 8)
        finally:
            server.resume()
        gate.open.set()
        async with working(app_at(server.url, gate)):
            assert (await run.result(20)).output == "put passed"


async def test_a_worker_whose_task_is_cancelled_leaves_no_task_and_its_runs_are_recovered(
    redis_url: str, gate: Gate, client: AsyncClient
):
    app = app_at(redis_url, gate)
    task = asyncio.create_task(Worker(app).run())
    run = await client.enqueue("echo", "call put {}\nsay $1")
    await wait_until(lambda: gate.entered)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    async with working(app):
        assert (await run.result(20)).output == "put passed"
    assert "run.recovered" in [event.type async for event in run.events(live=False)]


async def test_an_agent_that_is_paused_takes_no_new_iteration_until_it_is_resumed(
    redis_url: str, gate: Gate, client: AsyncClient
):
    gate.open.set()
    targets: tuple[dict[str, str], ...] = ({"agent": "echo"}, {"queue": "default"}, {})
    for target in targets:
        await client.pause_all(**target, reason="look")
        async with working(app_at(redis_url, gate)):
            run = await client.enqueue("echo", "say hello")
            reason = await wait_until(partial(_paused, client, run.id))
            assert "look" in reason
            await client.resume_all(**target)
            assert (await run.result(20)).output == "hello"


async def _paused(client: AsyncClient, run_id: str) -> str:
    reason = await client.why(run_id)
    return reason.text if reason.code == "paused" else ""


async def test_a_message_into_a_live_run_is_read_after_the_results_and_before_the_answer(
    redis_url: str, gate: Gate, client: AsyncClient
):
    async with working(app_at(redis_url, gate)):
        run = await client.enqueue("echo", "call look {}\nsay never", session_id="s1")
        await wait_until(lambda: gate.entered)
        await run.steer("say in euros", by="ada")
        gate.open.set()
        assert (await run.result(20)).output == "in euros"
        roles = [message.role.value for message in await run.messages()]
        assert roles == ["user", "assistant", "tool", "user", "assistant"]
        with pytest.raises(RunAlreadyFinished, match="follow_up starts the next run"):
            await run.steer("too late")
        following = await client.follow_up(run.id, "say and in dollars")
        assert (await following.result(20)).output == "and in dollars"
        assert (await following.read()).history_length == 5
