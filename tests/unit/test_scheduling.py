"""Schedules that are kept and carried out, over the store in memory and its clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentq import AsyncClient
from agentq.catalogue import Catalogue
from agentq.errors import InvalidInput, ScheduleNotFound
from agentq.schedules import MAX_CAUGHT_UP, time_of
from agentq.scheduling import Scheduling
from agentq.settings import Settings
from agentq.stores.filters import RunFilter
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock
from tests.unit._loop import NotedWakeups

HOUR_S = 3600


class Desk:
    """A store, a client, and workers that carry schedules out."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.executor = NotedWakeups()
        self.client = AsyncClient(settings=Settings(), store=self.store, executor=self.executor)

    def worker(self) -> Scheduling:
        return Scheduling(self.store, self.executor, Settings(), Catalogue())

    async def pass_hours(self, hours: float) -> int:
        """The clock goes on, and then a worker looks; how many runs it made."""
        self.clock.advance(hours * HOUR_S)
        return await self.worker().fire()

    async def times(self) -> list[str]:
        """For when the runs are."""
        runs = await self.store.list(RunFilter())
        return sorted(str(run.metadata["scheduled_for"])[11:16] for run in runs)

    async def state(self, name: str = "report") -> Any:
        (found,) = [each for each in await self.client.schedules() if each.schedule.name == name]
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()  # it is midnight


async def test_a_firing_is_a_run_like_any_other(desk: Desk):
    state = await desk.client.schedule(
        "report", "writer", "Write.", cron="0 9 * * *", session_id="s", user_id="ann", metadata={"a": 1}, queue="slow"
    )
    assert time_of(state.next_ms or 0)[11:] == "09:00:00Z"
    assert await desk.pass_hours(8.99) == 0
    assert await desk.pass_hours(0.01) == 1
    (run,) = await desk.store.list(RunFilter())
    assert (run.agent, run.prompt, run.session_id, run.user_id, run.queue) == ("writer", "Write.", "s", "ann", "slow")
    assert run.metadata == {"a": 1, "schedule": "report", "scheduled_for": time_of(state.next_ms or 0)}
    assert [woken for woken, _ in desk.executor.woken] == [run.run_id]
    assert (await desk.state()).last_run_id == run.run_id
    assert await desk.pass_hours(0) == 0


async def test_workers_that_look_at_once_make_one_run(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *")
    desk.clock.advance(9 * HOUR_S)
    made = await asyncio.gather(*[desk.worker().fire() for _ in range(5)])
    assert sum(made) == 1
    assert len(await desk.store.list(RunFilter())) == 1


@pytest.mark.parametrize(
    ("catch_up", "times", "skipped"),
    [("last", ["12:00"], 0), ("all", ["09:00", "10:00", "11:00", "12:00"], 0), ("none", [], 1)],
)
async def test_what_was_missed_is_made_up_for_as_the_schedule_says(
    desk: Desk, catch_up: Any, times: list[str], skipped: int
):
    await desk.client.schedule("report", "writer", "Write.", cron="0 9-17 * * *", catch_up=catch_up)
    await desk.pass_hours(12.5)
    while await desk.worker().fire():
        pass
    assert await desk.times() == times
    state = await desk.state()
    assert (time_of(state.next_ms)[11:16], state.skipped) == ("13:00", skipped)


async def test_a_look_that_comes_a_little_late_has_missed_nothing(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *", catch_up="none")
    assert await desk.pass_hours(9 + 30 / HOUR_S) == 1


async def test_not_more_is_made_up_for_than_is_bearable(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="* * * * *", catch_up="all")
    fired = await desk.pass_hours(24 * 7)
    while more := await desk.worker().fire():
        fired += more
    assert fired == MAX_CAUGHT_UP


async def test_a_firing_is_left_out_while_the_last_run_is_open(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="0 * * * *", overlap="skip")
    assert await desk.pass_hours(1) == 1
    assert await desk.pass_hours(1) == 0
    await desk.client.cancel((await desk.state()).last_run_id)
    assert await desk.pass_hours(1) == 1
    state = await desk.state()
    assert (state.fired, state.skipped) == (2, 1)


async def test_the_same_schedule_said_again_keeps_its_time_and_another_takes_its_place(desk: Desk):
    said: dict[str, Any] = {
        "cron": "0 9 * * *",
        "tools": ("add",),
        "metadata": {"a": (1, 2)},
        "ttl_s": {"failed": 60},
        "tenant": "acme",
    }
    await desk.client.schedule("report", "writer", "Write.", **said)
    desk.clock.advance(10 * HOUR_S)
    await desk.client.schedule("report", "writer", "Write.", **said)
    assert await desk.worker().fire() == 1
    await desk.client.schedule("report", "writer", "Write more.", **said | {"cron": "0 20 * * *"})
    assert time_of((await desk.state()).next_ms)[11:16] == "20:00"


async def test_a_schedule_that_is_paused_makes_up_for_nothing_when_it_is_resumed(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *", catch_up="all")
    await desk.client.pause_schedule("report")
    assert (await desk.state()).is_paused
    assert await desk.pass_hours(33) == 0
    state = await desk.client.resume_schedule("report")
    assert time_of(state.next_ms or 0)[8:16] == "03T09:00"
    assert await desk.client.resume_schedule("report") == state
    assert await desk.pass_hours(24) == 1


async def test_a_run_out_of_turn_leaves_the_schedule_as_it_is(desk: Desk):
    before = await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *")
    run_id = await desk.client.run_schedule("report")
    assert (await desk.client.read(run_id)).metadata == {"schedule": "report"}
    assert await desk.state() == before


async def test_a_schedule_that_is_forgotten_fires_no_more(desk: Desk):
    await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *")
    await desk.client.unschedule("report")
    assert await desk.pass_hours(24) == 0
    with pytest.raises(ScheduleNotFound, match="there is no schedule 'report'"):
        await desk.client.unschedule("report")


async def test_many_that_are_for_the_same_moment_are_not_late(desk: Desk):
    for number in range(160):
        await desk.client.schedule(f"s{number}", "writer", "Write.", cron="0 9 * * *", catch_up="none")
    assert await desk.pass_hours(9) == 160


async def test_one_that_cannot_be_carried_out_holds_up_no_other(desk: Desk, caplog: pytest.LogCaptureFixture):
    await desk.client.enqueue("writer", "Hello.", session_id="s", user_id="bob")
    await desk.client.schedule("bad", "writer", "Write.", cron="0 9 * * *", session_id="s", user_id="ann")
    await desk.client.schedule("good", "writer", "Write.", cron="0 9 * * *")
    assert await desk.pass_hours(9) == 1
    assert "schedule bad is not carried out, and goes on with its next time" in caplog.text
    state = await desk.state("bad")
    assert (time_of(state.next_ms)[8:16], state.fired, state.skipped) == ("02T09:00", 0, 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delay": 5}, "delay"),
        ({"idempotency_key": "k"}, "idempotency_key"),
        ({"session_id": ""}, "session_id"),
        ({"without": ["x"]}, "without"),
        ({"metadata": {"a": object()}}, "metadata"),
        ({"metadata": 5}, "metadata"),
        ({"metadata": [("a", 1)]}, "metadata"),
    ],
)
async def test_bad_options_are_refused_when_the_schedule_is_made(desk: Desk, options: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as refused:
        await desk.client.schedule("report", "writer", "Write.", cron="0 9 * * *", **options)
    assert refused.value.field == field
    assert await desk.client.schedules() == ()


async def test_a_run_starts_at_a_time(desk: Desk):
    at = datetime.fromtimestamp(desk.clock.now_ms() / 1000, UTC) + timedelta(hours=2)
    run = await desk.client.enqueue("writer", "Write.", at=at)
    assert (await run.read()).not_before_ms == round(at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"at": "tomorrow"}, "at must be a datetime with a time zone, not 'tomorrow'"),
        ({"at": datetime(2026, 1, 1)}, "at must be a datetime with a time zone"),  # noqa: DTZ001 - on purpose
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 5}, "give at or delay, not both"),
        ({"at": datetime(2126, 1, 1, tzinfo=UTC)}, "at must be within"),
    ],
)
async def test_a_bad_time_is_refused(desk: Desk, given: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        await desk.client.enqueue("writer", "Write.", **given)
