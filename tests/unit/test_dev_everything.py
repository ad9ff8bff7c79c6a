"""What `agentq dev` shows of the runs of a Redis: all that are new, whatever their ids and the clocks say."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from agentq.cli._output import Output, OutputClosed
from agentq.cli._watch import Look
from agentq.cli.dev.everything import Everything
from agentq.errors import StoreCorrupted, StoreUnavailable
from agentq.events.model import Event, RunCompleted, RunQueued
from agentq.runs import RunState, Status
from tests.helpers import wait_until
from tests.unit._cli import T0, numbered, run_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.client_async import AsyncClient


def run_id(number: int) -> str:
    return f"01JD3ZK8W5Q0X9V7T2M{number:07d}"


class Runs:
    """As much of `AsyncClient` as is used here: runs in the order of their ids."""

    def __init__(self) -> None:
        self.states: dict[str, RunState] = {}
        self.raises: Exception | None = None
        self.events_raise: Exception | None = None
        self.asked: list[int] = []

    def add(self, number: int, status: Status = Status.COMPLETED, created_ms: int = T0) -> None:
        name = run_id(number)
        self.states[name] = replace(run_state(name, status), prompt=f"prompt {number}", created_ms=created_ms)

    async def list(self, *, limit: int, before: str | None = None) -> tuple[RunState, ...]:
        self.asked.append(limit)
        if self.raises:
            raise self.raises
        newest_first = sorted(self.states, reverse=True)
        return tuple(self.states[name] for name in newest_first if before is None or name < before)[:limit]

    async def events(self, name: str) -> AsyncIterator[Event]:
        if self.events_raise:
            raise self.events_raise
        state = self.states[name]
        told: list[Event] = [RunQueued(agent="calculator", prompt=state.prompt), RunCompleted(output="done")]
        for event in numbered(told, run_id=name):
            yield event


@pytest.fixture
def runs() -> Runs:
    return Runs()


class Screen(io.StringIO):
    """What was written; whoever reads it has gone when it `is_shut`."""

    is_shut = False

    def write(self, text: str) -> int:
        if self.is_shut:
            raise BrokenPipeError
        return super().write(text)

    def shows(self, number: int) -> bool:
        return f"prompt {number}\n" in self.getvalue()


@asynccontextmanager
async def following(
    runs: Runs, *, looks_back: bool = True
) -> AsyncIterator[tuple[Screen, asyncio.Task[None], Everything]]:
    screen = Screen()
    everything = Everything(cast("AsyncClient", runs), Output(screen), Look())
    if looks_back:
        await everything.look_back()
    task = asyncio.create_task(everything.follow())
    try:
        yield screen, task, everything
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_had_ended_before_is_not_shown_and_all_else_is(runs: Runs):
    runs.add(1)
    runs.add(2, Status.RUNNING)
    async with following(runs) as (screen, _, _):
        await wait_until(lambda: screen.shows(2))
        runs.add(3)
        await wait_until(lambda: screen.shows(3))
    assert not screen.shows(1)
    assert screen.getvalue().count("prompt 2") == 1


async def test_a_run_that_ends_between_the_look_back_and_the_first_look_is_shown(runs: Runs):
    screen = Screen()
    everything = Everything(cast("AsyncClient", runs), Output(screen), Look())
    await everything.look_back()
    runs.add(1)
    task = asyncio.create_task(everything.follow())
    await wait_until(lambda: screen.shows(1))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_client_whose_clock_is_slow_is_seen_too(runs: Runs):
    """Its ids sort before those that are known, and its time is long ago."""
    runs.add(500)
    async with following(runs) as (screen, _, _):
        runs.add(600)
        await wait_until(lambda: screen.shows(600))
        runs.add(100, created_ms=T0 - 3_600_000)
        await wait_until(lambda: screen.shows(100))


async def test_what_is_older_than_the_first_look_stays_so_when_others_expire(runs: Runs):
    for number in range(1, 151):
        runs.add(number)
    async with following(runs) as (screen, _, _):
        for number in range(100, 151):
            del runs.states[run_id(number)]
        runs.asked.clear()
        await wait_until(lambda: runs.asked.count(100) >= 1)  # a wide look
        runs.add(151)
        await wait_until(lambda: screen.shows(151))
    assert screen.getvalue().count("prompt") == 1


async def test_of_a_burst_as_many_as_can_be_read_are_shown_and_the_rest_is_counted(
    runs: Runs, capsys: pytest.CaptureFixture[str]
):
    async with following(runs) as (screen, _, _):
        for number in range(1, 251):
            runs.add(number)
        await wait_until(lambda: screen.shows(30))
        assert "220 more runs not shown; see: agentq ls\n" in capsys.readouterr().err
        runs.add(251)
        await wait_until(lambda: screen.shows(251))
    assert screen.getvalue().count("prompt") == 31


async def test_a_reader_that_has_gone_ends_it(runs: Runs):
    async with following(runs) as (screen, task, _):
        screen.is_shut = True
        runs.add(1)
        with pytest.raises(OutputClosed):
            await asyncio.wait_for(task, 10)


async def test_a_run_that_cannot_be_read_is_told_of_and_the_others_go_on(
    runs: Runs, capsys: pytest.CaptureFixture[str]
):
    async with following(runs) as (screen, _, _):
        runs.events_raise = StoreCorrupted("its events are no events")
        runs.add(1)
        said = ""

        def is_told() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "\n" in said

        await wait_until(is_told)
        assert said == f"run {run_id(1)} cannot be shown: its events are no events\n"
        runs.events_raise = None
        runs.add(2)
        await wait_until(lambda: screen.shows(2))


@pytest.mark.parametrize("looks_back", [True, False])
async def test_a_redis_that_is_away_is_waited_for(runs: Runs, capsys: pytest.CaptureFixture[str], *, looks_back: bool):
    runs.add(1)
    runs.raises = StoreUnavailable("no answer")
    async with following(runs, looks_back=looks_back) as (screen, _, _):
        await wait_until(lambda: len(runs.asked) > 2)
        runs.raises = None
        await wait_until(lambda: len(runs.asked) > 4)
        runs.add(2)
        await wait_until(lambda: screen.shows(2))
    assert capsys.readouterr().err == "Redis is away; waiting (no answer)\nRedis is back\n"
    assert not screen.shows(1)


async def test_a_redis_that_does_not_answer_is_no_reason_to_wait_at_the_start(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
):
    async def never(**which: Any) -> tuple[RunState, ...]:
        await asyncio.Event().wait()
        raise AssertionError(which)

    monkeypatch.setattr(runs, "list", never)
    monkeypatch.setattr("agentq.cli.dev.everything._LOOK_BACK_S", 0.01)
    await Everything(cast("AsyncClient", runs), Output(Screen()), Look()).look_back()
