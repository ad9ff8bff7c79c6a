"""Draining: who ends in time ends, who may be repeated is handed back, who must not is waited for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agentq.settings import Settings
from agentq.worker.doorbell import Nudge
from agentq.worker.drain import drain
from tests.helpers import wait_until
from tests.unit._worker import ScriptedLoop, claim, slots


class Draining:
    """A drain in progress over the runs R0, R1, …"""

    def __init__(self, runs: int = 1, handover_ms: int = 0, drain_ms: int = 60_000) -> None:
        self.loop = ScriptedLoop()
        self.nudge = Nudge()
        self.hurry = asyncio.Event()
        self.slots = slots(self.loop, concurrency=9, on_room=self.nudge)
        for number in range(runs):
            self.slots.start(claim(f"R{number}"))
        self.settings = Settings(handover_ms=handover_ms, drain_ms=drain_ms)

    def begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(drain(self.slots, self.settings, hurry=self.hurry, nudge=self.nudge))

    def told(self, number: int = 0) -> list[str]:
        return self.loop.begun[number].told


async def test_an_empty_worker_is_drained_at_once():
    await Draining(runs=0, handover_ms=60_000).begin()


async def test_who_ends_within_the_handover_is_told_nothing():
    draining = Draining(runs=2, handover_ms=60_000)
    task = draining.begin()
    await asyncio.sleep(0)
    draining.loop.begun[0].finish()
    draining.loop.begun[1].finish()
    await task
    assert draining.told(0) == draining.told(1) == []
    assert draining.slots.tally.committed == 2


async def test_after_the_handover_runs_are_handed_back():
    draining = Draining(runs=2)
    await draining.begin()
    assert draining.told(0) == draining.told(1) == ["hand back"]
    assert draining.slots.tally.released == 2


async def test_what_must_not_be_repeated_is_waited_for():
    draining = Draining(runs=2)
    draining.loop.begun[0].must_not_repeat = True
    task = draining.begin()
    await wait_until(lambda: len(draining.slots) == 1)
    assert not task.done()
    draining.loop.begun[0].finish()
    await task
    assert draining.slots.tally.committed == 1


@pytest.mark.parametrize(("once", "said"), [(0, []), (1, ["1 iteration that"]), (2, ["2 iterations that"])])
async def test_the_wait_is_announced(once: int, said: list[str], caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="agentq.worker.drain")
    draining = Draining(runs=3, drain_ms=25_000)
    for iteration in draining.loop.begun[:once]:
        iteration.must_not_repeat = True
    task = draining.begin()
    await wait_until(lambda: len(draining.slots) == once)
    for iteration in draining.loop.begun:
        iteration.finish()
    await task
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"waiting up to 25 s for {what} must not be repeated" for what in said]
    assert {record.__dict__["worker"] for record in caplog.records} <= {"w1"}


async def test_but_not_for_ever():
    draining = Draining(drain_ms=50)
    draining.loop.begun[0].must_not_repeat = True
    await draining.begin()
    assert draining.told() == ["hand back", "hand back now"]


async def test_a_second_signal_hands_everything_back_at_once():
    draining = Draining(runs=2, handover_ms=60_000)
    draining.loop.begun[0].must_not_repeat = True
    task = draining.begin()
    await asyncio.sleep(0)
    draining.hurry.set()
    draining.nudge()
    await task
    assert draining.told(0) == draining.told(1) == ["hand back now"]


async def test_who_cannot_release_is_abandoned():
    draining = Draining()
    draining.loop.begun[0].releases = False
    draining.hurry.set()
    await draining.begin()
    assert draining.told() == ["hand back now"]
    assert len(draining.slots) == 0
    assert draining.slots.tally.iterations == 0
