"""What is in flight, what is logged of it, and what a bug in one run does to the others: nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from agentq.errors import StoreUnavailable
from agentq.messages import Usage
from agentq.runs import Status
from agentq.worker.slots import follow_cancels
from tests.helpers import wait_until
from tests.unit._worker import ScriptedLoop, claim, outcome, slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.loop import Outcome


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="agentq")


async def test_an_iteration_is_one_line_with_its_data(caplog: pytest.LogCaptureFixture):
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim("R1"))
    loop.begun[0].finish()
    await wait_until(lambda: len(running) == 0)
    (record,) = caplog.records
    assert record.getMessage() == "run R1 iteration 2 committed → queued  3 tools  41 ms"
    data = ("run_id", "iteration", "worker", "status", "tools", "duration_ms")
    assert [getattr(record, name) for name in data] == ["R1", 2, "w1", "queued", 3, 41]
    assert (running.tally.committed, running.tally.tools, running.tally.busy_ms) == (1, 3, 41)


@pytest.mark.parametrize(
    ("ended", "line", "level"),
    [
        (outcome(kind="released"), "run R1 iteration 2 released → queued  3 tools  41 ms", "INFO"),
        (
            outcome(status=Status.FAILED, error="the limit of 16 iterations is reached", usage=Usage()),
            "run R1 iteration 2 committed → failed  3 tools  41 ms  the limit of 16 iterations is reached",
            "INFO",
        ),
        (outcome(status=None, kind="lost"), "run R1 iteration 2 lost  3 tools  41 ms", "WARNING"),
        (outcome(status=None, kind="failed_to_store"), "run R1 iteration 2 failed_to_store  3 tools  41 ms", "WARNING"),
    ],
)
async def test_the_line_says_how_it_ended(ended: Outcome, line: str, level: str, caplog: pytest.LogCaptureFixture):
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim())
    loop.begun[0].end.set_result(ended)
    await wait_until(lambda: len(running) == 0)
    assert [(record.getMessage(), record.levelname) for record in caplog.records] == [(line, level)]
    assert getattr(running.tally, ended.kind) == running.tally.iterations == 1


async def test_one_tool_is_not_1_tools(caplog: pytest.LogCaptureFixture):
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim())
    loop.begun[0].end.set_result(outcome(tools=1))
    await wait_until(lambda: len(running) == 0)
    assert caplog.messages == ["run R1 iteration 2 committed → queued  1 tool  41 ms"]


async def test_an_iteration_that_was_lost_may_end_after_the_one_that_took_over():
    """Its last call to Redis may hang for long; the slot is free and said to be free all the same."""
    loop, room = ScriptedLoop(), []
    running = slots(loop, concurrency=2, on_room=lambda: room.append(True))
    running.tells_every_end = True
    running.start(claim(fence=1))
    running.start(claim(fence=2))
    older, newer = loop.begun
    assert older.told == ["lose"]
    newer.finish()
    await wait_until(lambda: len(running) == 1)
    assert not running.holds("R1")
    older.finish()
    await wait_until(lambda: len(running) == 0)
    assert len(room) == 2


@pytest.mark.parametrize(
    ("recoveries", "said"), [(1, "recovery 1 of 5"), (6, "recovery 6, more than 5: the run is set aside")]
)
async def test_a_take_over_is_told(recoveries: int, said: str, caplog: pytest.LogCaptureFixture):
    running = slots(ScriptedLoop())
    running.start(claim("R1", recoveries=recoveries))
    running.start(claim("R2"))
    await running.abandon()
    (record,) = caplog.records
    assert record.getMessage() == f"run R1 taken over: its worker stopped renewing its lease ({said})"
    data = [record.__dict__[name] for name in ("levelname", "run_id", "worker")]
    assert data == ["WARNING", "R1", "w1"]


async def test_room_is_told_when_a_full_house_gets_a_free_slot():
    told: list[int] = []
    loop = ScriptedLoop()
    running = slots(loop, concurrency=2, on_room=lambda: told.append(running.free))
    running.start(claim("R1"))
    loop.begun[0].finish()
    await wait_until(lambda: len(running) == 0)
    assert told == []
    running.start(claim("R1", 2))
    running.start(claim("R2"))
    assert running.free == 0
    loop.begun[1].finish()
    loop.begun[2].finish()
    await wait_until(lambda: len(running) == 0)
    assert told == [1]


@pytest.mark.parametrize("bug", [ValueError("a bug"), SystemExit(3)])
async def test_a_bug_is_logged_with_its_traceback_and_ends_only_its_run(
    bug: BaseException, caplog: pytest.LogCaptureFixture
):
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim("R1"))
    running.start(claim("R2"))
    loop.begun[0].end.set_exception(bug)
    await wait_until(lambda: len(running) == 1)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "recovered when its lease has expired" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is bug
    assert loop.begun[0].told == loop.begun[1].told == []
    assert running.tally.broken == running.tally.failed == 1
    loop.begun[1].finish()
    await wait_until(lambda: len(running) == 0)


async def test_a_run_whose_iteration_cannot_begin_takes_no_slot(caplog: pytest.LogCaptureFixture):
    running = slots(ScriptedLoop(broken=["R1"]))
    running.start(claim("R1"))
    assert len(running) == 0
    assert running.tally.broken == 1
    assert "run R1 broke its iteration" in caplog.text


async def test_a_store_that_stayed_away_is_no_bug(caplog: pytest.LogCaptureFixture):
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim())
    loop.begun[0].end.set_exception(StoreUnavailable("Redis is away"))
    await wait_until(lambda: len(running) == 0)
    assert [record.getMessage() for record in caplog.records] == ["run R1 could not be stored: Redis is away"]
    assert running.tally.failed_to_store == 1


async def test_a_run_claimed_anew_by_the_same_worker_replaces_the_iteration_that_lost_it():
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim("R1", 1))
    running.start(claim("R1", 2))
    assert loop.begun[0].told == ["lose"]
    loop.begun[0].finish()
    await wait_until(lambda: len(running) == 1)
    running.cancel("R1")
    assert loop.begun[1].told == ["cancel"]
    loop.begun[1].finish()
    await wait_until(lambda: len(running) == 0)
    running.cancel("R1")


async def test_cancels_that_are_heard_reach_their_iteration():
    async def heard() -> AsyncIterator[str]:
        for run_id in ("unknown", "R2"):
            yield run_id

    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim("R1"))
    running.start(claim("R2"))
    await follow_cancels(heard(), running)
    assert [iteration.told for iteration in loop.begun] == [[], ["cancel"]]
    await running.abandon()
    assert len(running) == 0


async def test_abandoned_iterations_are_cut_off_without_a_word():
    loop = ScriptedLoop()
    running = slots(loop)
    running.start(claim("R1"))
    await asyncio.sleep(0)
    await running.abandon()
    assert len(running) == 0
    assert loop.begun[0].told == []
    assert running.tally.iterations == 0
