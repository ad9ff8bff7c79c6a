"""`agentq schedule`, over a store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, cast

from click.testing import CliRunner, Result

from agentq import AsyncClient, Settings
from agentq.cli import cli
from agentq.cli._group import Options
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock
from tests.unit._loop import NotedWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADD = ("add", "report", "writer", "Write.", "--cron", "0 9 * * mon-fri", "--timezone", "Europe/Berlin")


class Desk(Options):
    """Options that lead to one store."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(FakeClock())

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(settings=Settings(), store=self.store, executor=NotedWakeups()) as client:
            yield client

    def invoke(self, *args: str) -> Result:
        self.json = False
        result = CliRunner().invoke(cli, ["schedule", *args], obj=self)
        assert result.exit_code == 0, result.output
        return result


def test_a_schedule_is_added_listed_paused_and_removed():
    desk = Desk()
    assert desk.invoke("ls").stderr == "no schedules; `agentq schedule add` makes one\n"
    assert desk.invoke(*ADD).stdout == "report: next at 2026-01-01T08:00:00Z\n"
    heads, line = desk.invoke("ls").stdout.splitlines()
    assert heads.split() == ["NAME", "CRON", "ZONE", "AGENT", "NEXT", "LAST", "RUN", "RUNS", "SKIPPED"]
    assert line.split() == [
        *("report", "0", "9", "*", "*", "mon-fri", "Europe/Berlin", "writer", "2026-01-01T08:00:00Z", "-", "0", "0")
    ]
    assert desk.invoke("pause", "report").stdout == "report: paused\n"
    assert " paused " in desk.invoke("ls").stdout
    assert desk.invoke(*ADD).stdout == "report: paused\n"
    assert desk.invoke("resume", "report").stdout == "report: resumed\n"
    assert desk.invoke("rm", "report").stdout == "report: forgotten\n"


def test_a_run_out_of_turn_prints_its_id():
    desk = Desk()
    desk.invoke(*ADD, "--user", "ann", "--meta", "a=1", "--overlap", "skip")
    run_id = desk.invoke("run-now", "report").stdout.strip()
    run = asyncio.run(desk.store.read(run_id))
    assert (run.user_id, run.metadata) == ("ann", {"schedule": "report", "a": "1"})


def test_programs_get_json():
    desk = Desk()
    (document,) = [json.loads(line) for line in desk.invoke(*ADD, "--json").stdout.splitlines()]
    assert document["schedule"]["cron"] == "0 9 * * mon-fri"
    listed = json.loads(desk.invoke("ls", "--json").stdout)
    assert listed == {"schedules": [document]}
    assert cast("int", document["next_ms"]) > 0
    assert set(json.loads(desk.invoke("run-now", "report", "--json").stdout)) == {"run_id"}
    assert json.loads(desk.invoke("rm", "report", "--json").stdout) == {"schedules": ["report"]}
