"""The warnings that no worker is there and that Redis is away: when they come, and when not."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, cast

import pytest

from agentq.cli._watch import Look, Watch
from agentq.errors import StoreUnavailable
from agentq.events.model import Event, IterationStarted, RunQueued
from agentq.runs import Status
from tests.helpers import wait_until
from tests.unit._cli import OTHER, RUN, ScriptedClient, ScriptedOptions, ScriptedRun, numbered, run_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.client import AsyncClient

QUEUED = RunQueued(agent="calculator", prompt="hi")
STARTED = IterationStarted(iteration=1, worker="w1", fence=1)


def waiting_run(*events: Event, run_id: str = RUN, queue: str = "default") -> ScriptedRun:
    state = run_state(run_id, Status.QUEUED, queue=queue)
    return ScriptedRun(state, numbered(events, run_id=run_id), hangs=True)


@pytest.fixture
async def following() -> AsyncIterator[list[asyncio.Task[object]]]:
    tasks: list[asyncio.Task[object]] = []
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def follow(client: ScriptedClient, *run_ids: str, as_json: bool = False) -> asyncio.Task[object]:
    view = Watch(ScriptedOptions(client=client), Look(json=as_json), worker_missing_after_s=0.02, probe_every_s=0.02)
    return asyncio.create_task(view.follow(cast("AsyncClient", client), run_ids))


async def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What stderr says, as soon as it says something."""
    heard: list[str] = []

    def listen() -> bool:
        heard.append(capsys.readouterr().err)
        return bool("".join(heard))

    await wait_until(listen)
    return "".join(heard)


async def test_a_queued_run_without_a_worker_is_told_once(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    client = ScriptedClient(waiting_run(QUEUED), workers=())
    following.append(follow(client, RUN))
    assert await said(capsys) == "no worker on queue default; start: agentq worker\n"
    asked = len(client.calls)
    await asyncio.sleep(0.1)
    assert (capsys.readouterr().err, len(client.calls)) == ("", asked)


async def test_the_way_to_start_a_worker_names_another_queue(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    following.append(follow(ScriptedClient(waiting_run(QUEUED, queue="slow"), workers=()), RUN))
    assert await said(capsys) == "no worker on queue slow; start: agentq worker -q slow\n"


async def test_it_is_json_where_the_output_is(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    following.append(follow(ScriptedClient(waiting_run(QUEUED), workers=()), RUN, as_json=True))
    assert (await said(capsys)).startswith('{"note": {"type": "no_worker", "message": "no worker on queue default')


async def test_nothing_is_said_while_a_worker_is_there(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    client = ScriptedClient(waiting_run(QUEUED), workers=("w1",))
    following.append(follow(client, RUN))
    await wait_until(lambda: client.calls.count(("why", RUN)) >= 2)
    assert capsys.readouterr().err == ""
    client.live_workers = ()
    assert await said(capsys) == "no worker on queue default; start: agentq worker\n"


async def test_a_run_that_is_to_start_later_says_when(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    later = ScriptedRun(run_state(status=Status.QUEUED, not_before_ms=int(time.time() * 1000) + 59_900), hangs=True)
    following.append(follow(ScriptedClient(later), RUN))
    assert re.fullmatch(rf"run {RUN} starts in 5\d\.\d s\n", await said(capsys))


async def test_a_running_run_is_not_asked_about(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    running = ScriptedClient(waiting_run(QUEUED, STARTED), waiting_run(QUEUED, run_id=OTHER, queue="q"), workers=())
    following.append(follow(running, RUN, OTHER))
    assert "queue q" in await said(capsys)
    assert ("why", RUN) not in running.calls


async def test_redis_that_goes_away_and_comes_back_is_told_once_each(
    capsys: pytest.CaptureFixture[str], following: list[asyncio.Task[object]]
):
    client = ScriptedClient(waiting_run(QUEUED, STARTED))
    following.append(follow(client, RUN))
    await asyncio.sleep(0.1)
    assert capsys.readouterr().err == ""
    client.raises = StoreUnavailable("Redis went away")
    assert await said(capsys) == "Redis is away; waiting\n"
    await asyncio.sleep(0.1)
    assert capsys.readouterr().err == ""
    client.raises = None
    assert await said(capsys) == "Redis is back\n"
