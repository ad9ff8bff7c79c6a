"""`agentq worker`: signals, and how its log lines look."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import signal
from typing import TYPE_CHECKING, cast

import pytest

from agentq.cli._logs import JsonFormat, TextFormat
from agentq.cli._output import Output
from agentq.cli.worker import serve
from agentq.settings import Settings
from tests.helpers import wait_until

if TYPE_CHECKING:
    from agentq.worker import Worker


class ScriptedWorker:
    """A worker that ends when it is told to stop at once, or warmly if it is `quick`."""

    def __init__(self, *, quick: bool) -> None:
        self.told: list[str] = []
        self._quick = quick
        self._ended = asyncio.Event()
        self.is_running = False

    async def run(self) -> None:
        self.is_running = True
        await self._ended.wait()

    def stop(self) -> None:
        self.told.append("stop")
        if self._quick:
            self._ended.set()

    def stop_now(self) -> None:
        self.told.append("stop_now")
        self._ended.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_stops_warmly_and_exits_0(number: signal.Signals):
    worker = ScriptedWorker(quick=True)
    serving = asyncio.create_task(serve(cast("Worker", worker)))
    await wait_until(lambda: worker.is_running)
    os.kill(os.getpid(), number)
    assert await serving == 0
    assert worker.told == ["stop"]


async def test_the_second_signal_stops_at_once_and_exits_130():
    worker = ScriptedWorker(quick=False)
    serving = asyncio.create_task(serve(cast("Worker", worker)))
    await wait_until(lambda: worker.is_running)
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_until(lambda: worker.told == ["stop"])
    os.kill(os.getpid(), signal.SIGINT)
    assert await serving == 130
    assert worker.told == ["stop", "stop_now"]


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "agentq.worker", "levelno": level, "msg": message, **extra})
    made.levelname = logging.getLevelName(level)
    return made


def test_a_text_line_has_the_time_the_level_and_the_extras_that_it_does_not_name():
    line = TextFormat(Output(io.StringIO(), {})).format(
        record("iteration 2\nof R1 done", run_id="R1", worker="w1", tools=3)
    )
    assert re.sub(r"\d", "0", line) == "00:00:00.000 INFO    iteration 0 of R0 done  tools=0"


def test_a_json_line_is_one_object_with_the_extras():
    made = record("slow", logging.WARNING, run_id="R1", iteration=2)
    entry = json.loads(JsonFormat().format(made))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry.pop("at"))
    assert entry == {
        "level": "warning",
        "logger": "agentq.worker",
        "message": "slow",
        "run_id": "R1",
        "iteration": 2,
    }


def test_a_traceback_follows_the_line_or_stands_in_the_object():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    made = record("broken", logging.ERROR, exc_info=(caught.type, caught.value, caught.tb))
    text = TextFormat(Output(io.StringIO(), {})).format(made)
    assert text.splitlines()[0].endswith("ERROR   broken")
    assert text.splitlines()[-1].startswith("ValueError: invalid literal")
    assert "ValueError: invalid literal" in json.loads(JsonFormat().format(made))["exception"]


def test_what_the_app_says_counts_unless_the_environment_or_an_option_says_otherwise():
    app = Settings(lease_ms=5_000, concurrency=7, queue="house")
    merged = Settings.load({"AGENTQ_LEASE_MS": "6000"}, base=app, concurrency=None, queue="other")
    assert (merged.lease_ms, merged.concurrency, merged.queue) == (6_000, 7, "other")
