"""`agentq why`, `workers`, `queues`, `stats` and `doctor`: what they print, in words and as JSON, and exit with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from click.testing import CliRunner, Result

from agentq.cli import cli
from agentq.cli._output import columns
from agentq.errors import StoreUnavailable
from agentq.insight.facts import MemoryInfo, QueueInfo, Stats, WorkerInfo
from agentq.insight.server import ServerFacts
from agentq.limits import Spent
from agentq.runs import Status
from agentq.webhooks import WebhookState
from tests.helpers import ROOT
from tests.unit._cli import OTHER, RUN, T0, ScriptedClient, ScriptedOptions, ScriptedRun, Terminal, run_state

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = WorkerInfo(
    "agentq-box-12-beef", ("high", "default"), "busy", "box", 12, T0, 7, 1, 2, 100, ("calculator", "writer"), "0.1.0"
)
STOCK = WorkerInfo("rq-box", ("default",), "idle", "box", 13, T0, 3, 0)
QUEUES = (QueueInfo("default", 3, T0, (OURS.name,), 2, 1), QueueInfo("slow", 1, None, (), 0, 0), QueueInfo("idle", 0))
STATS = Stats(
    now_ms=T0 + 90_000,
    runs={"queued": 4, "running": 2, "waiting": 0, "paused": 0, "completed": 120, "failed": 1, "cancelled": 0},
    sessions=3,
    due=6,
    oldest_queued=(RUN, T0),
    swept_ms=T0 + 89_900,
    workers=(OURS, STOCK, replace(OURS, name="w2", is_silent=True)),
    queues=QUEUES,
    memory=MemoryInfo(12_300_000, 100_000_000, "noeviction"),
    kept_bytes=11_000,
    kept_of=10,
    spent=Spent(12_345, 1_500_000_000, 7),
)
EMPTY = Stats(T0, dict.fromkeys(map(str, Status), 0), 0, 0, None, None, (), ())
SOUND = {"redis_version": "7.2.1", "maxmemory_policy": "noeviction", "aof_enabled": "1", "role": "master"}


class ScriptedInsight:
    """What an operator asks, with answers that are given."""

    where = "localhost:6379/0"

    def __init__(self, raises: Exception | None = None, **answers: Any) -> None:
        self._answers = {"workers": (), "queues": (), "stats": EMPTY, "server": ServerFacts(SOUND, {}), **answers}
        self._raises = raises

    def __getattr__(self, name: str) -> Any:
        async def answer() -> Any:
            if self._raises:
                raise self._raises
            if isinstance(self._answers[name], Exception):
                raise self._answers[name]
            return self._answers[name]

        return answer


def invoke(
    *args: str, insight: ScriptedInsight | None = None, runs: tuple[ScriptedRun, ...] = (), **fields: Any
) -> Result:
    client = ScriptedClient(*runs, workers=fields.pop("workers", ("w1",)))
    client.insight = insight or ScriptedInsight()  # type: ignore[attr-defined]
    return CliRunner().invoke(cli, args, obj=ScriptedOptions(client=client, **fields))


# why


def test_why_says_the_reason_and_what_to_do():
    run = ScriptedRun(run_state(status=Status.QUEUED, queue="slow"))
    result = invoke("why", RUN.lower(), runs=(run,), workers=())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "queued: no worker on queue slow\n→ start: agentq worker -q slow\n"


def test_why_tells_until_when_on_a_line_of_its_own():
    run = ScriptedRun(run_state(status=Status.QUEUED, not_before_ms=T0 + 4000, errors=2, last_error="no\nluck"))
    first, until = invoke("why", RUN, runs=(run,)).stdout.splitlines()
    assert first == "queued: its last 2 turns failed (no luck); it tries again in 4.0 s"
    assert until.startswith("· until 20")


def test_why_of_a_failed_run_is_no_failure_of_the_command():
    run = ScriptedRun(run_state(status=Status.FAILED, finished_ms=T0, last_error="no luck"))
    result = invoke("why", RUN, runs=(run,))
    assert result.exit_code == 0
    assert result.stdout.startswith("failed: it failed 0 s ago: no luck\n")


def test_why_json_is_a_document():
    run = ScriptedRun(run_state(status=Status.QUEUED))
    document = json.loads(invoke("why", RUN, "--json", runs=(run,), workers=()).stdout)
    assert document == {
        "run_id": RUN,
        "status": "queued",
        "code": "no_worker",
        "text": "no worker on queue default",
        "fix": "start: agentq worker",
        "notes": [],
        "details": {"queue": "default", "workers": 0},
        "needs_help": True,
        "because": None,
    }


# workers, queues, stats


def test_workers_is_a_table_that_marks_stock_workers():
    result = invoke("workers", insight=ScriptedInsight(workers=(OURS, STOCK, replace(OURS, name="w2", is_silent=True))))
    heads, ours, stock, silent = (line.split() for line in result.stdout.splitlines())
    assert heads[:5] == ["WORKER", "STATE", "RUNS", "QUEUES", "UP"]
    assert ours[:4] == ["agentq-box-12-beef", "busy", "2/100", "high,default"]
    assert ours[-2:] == ["calculator,", "writer"]
    assert stock[:4] == ["rq-box", "idle", "-", "default"]
    assert stock[-3:] == ["stock", "rq", "worker"]
    assert silent[1] == "silent"


def test_queues_is_a_table_that_says_where_a_worker_is_missing():
    result = invoke("queues", insight=ScriptedInsight(queues=QUEUES))
    heads, default, slow, idle = (line.split() for line in result.stdout.splitlines())
    assert heads == ["QUEUE", "WAITING", "OLDEST", "FAILED", "WORKERS"]
    assert (default[:2], default[-4:]) == (["default", "3"], ["2", "(1", "foreign)", "1"])
    assert slow == ["slow", "1", "-", "0", "none;", "start:", "agentq", "worker", "-q", "slow"]
    assert idle == ["idle", "0", "-", "0", "0"]


def test_stats_is_one_page():
    webhooks = (WebhookState("orders", pending=41, dead=1), WebhookState("alarm"))
    result = invoke("stats", insight=ScriptedInsight(stats=replace(STATS, webhooks=webhooks)))
    assert result.stdout == (
        "runs      4 queued · 2 running · 0 waiting · 0 paused\n"
        "ended     120 completed · 1 failed · 0 cancelled\n"
        f"oldest    {RUN}, queued, created 1 m ago\n"
        "sessions  3\n"
        "watched   6 runs, swept 100 ms ago\n"
        "workers   2 · 4 of 200 iterations in flight · 14 done and 2 failed since they started · "
        "1 not heard of late · 1 stock rq worker\n"
        "queues    default 3 waiting, the oldest for 1 m · slow 1 waiting, no worker · idle 0 waiting, no worker\n"
        "webhooks  orders 41 waiting, 1 given up · alarm 0 waiting\n"
        "spent     12,345 tokens, $1.5000, 7 iterations today, by all runs that are counted together\n"
        "memory    12.3 MB of 100.0 MB, noeviction\n"
        "per run   11 KB kept, mean of the last 10 that completed\n"
    )


def test_stats_of_an_empty_redis_that_refuses_info():
    lines = invoke("stats").stdout.splitlines()
    assert "watched   0 runs, no sweep for a day: no worker of agentq is at work" in lines
    assert "memory    cannot tell: Redis refuses INFO" in lines
    assert "queues    none" in lines
    assert not any(line.startswith(("oldest", "per run")) for line in lines)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("workers", "no workers; start: agentq worker\n"),
        ("queues", "no queues: nothing was enqueued so far, and no worker is there\n"),
    ],
)
def test_nothing_there_says_so_beside_the_output(command: str, said: str):
    result = invoke(command)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", said)
    assert json.loads(invoke(command, "--json").stdout) == {command: []}


def test_workers_json_has_every_field():
    document = json.loads(invoke("workers", "--json", insight=ScriptedInsight(workers=(OURS, STOCK))).stdout)
    ours, stock = document["workers"]
    assert ours.items() >= {"kind": "agentq", "name": OURS.name, "in_flight": 2, "concurrency": 100}.items()
    assert ours["queues"] == ["high", "default"]
    assert stock.items() >= {"kind": "rq", "in_flight": None, "agents": None, "version": None}.items()


def test_queues_json_has_every_field():
    document = json.loads(invoke("queues", "--json", insight=ScriptedInsight(queues=QUEUES)).stdout)
    assert document["queues"][0] == {
        "name": "default",
        "waiting": 3,
        "oldest_ms": T0,
        "workers": [OURS.name],
        "failed": 2,
        "foreign": 1,
        "pause": None,
        "in_line": 0,
    }


def test_stats_json_is_a_document():
    document = json.loads(invoke("stats", "--json", insight=ScriptedInsight(stats=STATS)).stdout)
    assert document["runs"]["completed"] == 120
    assert document["oldest_queued"] == {"run_id": RUN, "created_ms": T0}
    assert document["memory"] == {"used": 12_300_000, "limit": 100_000_000, "policy": "noeviction"}
    assert [queue["latency_ms"] for queue in document["queues"]] == [90_000, None, None]
    assert document["spent"] == {"tokens": 12_345, "cost_usd": 1.5, "iterations": 7}
    assert [worker["kind"] for worker in document["workers"]] == ["agentq", "rq", "agentq"]
    empty = json.loads(invoke("stats", "--json").stdout)
    assert (empty["oldest_queued"], empty["memory"], empty["workers"], empty["spent"]) == (None, None, [], None)


# doctor


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checkout, where the default app is."""
    monkeypatch.chdir(ROOT)


WELL = ScriptedInsight(
    stats=replace(STATS, workers=(OURS,)),
    server=ServerFacts({**SOUND, "used_memory": "9000"}, {"appendfsync": "everysec"}),
)


@pytest.mark.usefixtures("at_home")
def test_doctor_lists_what_it_looked_at_and_exits_0():
    result = invoke("doctor", insight=WELL)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "this machine",
        "the app",
        "Redis at localhost:6379/0",
        "workers",
        "all is well",
    ]
    assert "  ✓ workers.app:app loads; agents: calculator" in lines
    assert "  ✓ Redis 7.2.1" in lines
    assert "  ✓ 1 worker of agentq" in lines


@pytest.mark.usefixtures("at_home")
def test_doctor_with_something_to_mend_exits_1_and_says_how():
    server = ServerFacts({**SOUND, "maxmemory_policy": "allkeys-lru"}, {"appendfsync": "everysec"})
    result = invoke("doctor", insight=ScriptedInsight(server=server))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = lines.index("  ✗ maxmemory-policy is allkeys-lru: when memory is short, Redis deletes runs")
    assert lines[at + 1].startswith("    → CONFIG SET maxmemory-policy noeviction")
    assert lines[-1] == "1 thing to mend, 1 warning"


@pytest.mark.usefixtures("at_home")
def test_doctor_with_warnings_only_exits_0():
    result = invoke("doctor", insight=ScriptedInsight())
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "1 warning")
    assert "  ! no worker is there; runs wait\n    → start: agentq worker\n" in result.stdout


@pytest.mark.usefixtures("at_home")
def test_doctor_looks_at_the_rest_when_redis_is_away_and_exits_69():
    away = StoreUnavailable("Redis at localhost:1 cannot be reached")
    result = invoke("doctor", insight=ScriptedInsight(raises=away))
    assert (result.exit_code, result.stderr) == (69, "")
    assert "  ✓ workers.app:app loads; agents: calculator\n" in result.stdout
    assert "  ✗ Redis at localhost:1 cannot be reached\n    → start Redis, or name another" in result.stdout


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("answers", "code", "line"),
    [
        (
            {"stats": redis.exceptions.NoPermissionError("no permissions to run the 'smembers' command")},
            0,
            "  ? cannot tell: Redis refuses: no permissions to run the 'smembers' command",
        ),
        ({"server": ServerFacts({}, None)}, 0, "  ? cannot tell its version, memory and durability"),
        ({"server": redis.exceptions.ResponseError("DB index is out of range")}, 1, "  ✗ this Redis has no database"),
    ],
)
def test_doctor_takes_a_refusal_for_an_answer(answers: dict[str, Any], code: int, line: str):
    result = invoke("doctor", insight=ScriptedInsight(**answers))
    assert result.exit_code == code
    assert line in result.stdout


@pytest.mark.usefixtures("at_home")
def test_doctor_json_is_one_document():
    result = invoke("doctor", "--json", insight=ScriptedInsight())
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert {check["name"]: check["level"] for check in document["checks"]}.items() >= {
        "python": "ok",
        "shadow": "ok",
        "app": "ok",
        "redis_version": "ok",
        "eviction": "ok",
        "workers": "warning",
    }.items()
    away = invoke("doctor", "--json", insight=ScriptedInsight(raises=StoreUnavailable("away")))
    assert (away.exit_code, json.loads(away.stdout)["ok"]) == (69, False)


@pytest.mark.parametrize(("named", "code", "mark"), [(None, 0, "!"), ("nowhere.app:app", 1, "✗")])
def test_doctor_without_an_app(named: str | None, code: int, mark: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(ROOT))])
    for name in [name for name in sys.modules if name.partition(".")[0] == "workers"]:
        monkeypatch.delitem(sys.modules, name)
    result = invoke("doctor", insight=WELL, app=named)
    assert result.exit_code == code
    assert result.stdout.partition("the app\n")[2].startswith(f"  {mark} ")


# all of them

COMMANDS = (("why", RUN), ("workers",), ("queues",), ("stats",), ("doctor",))


@pytest.mark.parametrize(
    ("args", "code", "complaint"),
    [
        (["why"], 2, "Missing argument 'RUN'"),
        (["why", RUN, OTHER], 2, f"unexpected extra argument ({OTHER})"),
        (["why", "nonsense"], 3, "there is no run 'nonsense': a run id has 26 letters and digits"),
        (["why", RUN], 3, "There is no such run"),
        (["why", RUN, "--wait"], 2, "No such option"),
        (["workers", "default"], 2, "there is no command 'default'"),
        (["workers", "-q", "slow"], 2, "No such option"),
        (["queues", "slow"], 2, "unexpected extra argument (slow)"),
        (["stats", "--nonsense"], 2, "No such option"),
        (["doctor", "--fix"], 2, "No such option"),
        (["wyh", RUN], 2, "there is no command 'wyh', did you mean 'why'?"),
    ],
)
def test_bad_input_is_one_line_with_the_code(args: list[str], code: int, complaint: str):
    result = invoke(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("args", COMMANDS[1:4])
def test_redis_away_exits_69_with_one_line(args: tuple[str, ...]):
    result = invoke(*args, insight=ScriptedInsight(raises=StoreUnavailable("Redis at localhost:1 is away")))
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr.startswith("error: Redis at localhost:1 is away (start Redis")


@pytest.mark.parametrize("args", COMMANDS[1:4])
def test_what_redis_does_not_allow_is_one_line(args: tuple[str, ...]):
    refused = redis.exceptions.NoPermissionError("this user has no permissions to run the 'smembers' command")
    result = invoke(*args, insight=ScriptedInsight(raises=refused))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Redis refuses: this user has no permissions to run the 'smembers' command")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("AGENTQ_CONCURRENCY", "many", "AGENTQ_CONCURRENCY must be a whole number"),
        ("REDIS_URL", "localhost", "redis_url 'localhost' is not a Redis URL"),
    ],
)
@pytest.mark.parametrize("args", COMMANDS)
def test_settings_that_are_wrong_are_one_line_and_exit_2(
    args: tuple[str, ...], variable: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(cli, args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """A terminal of so many columns on stdout, without colours."""

    def of(width: int) -> Terminal:
        stream = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return of


@pytest.mark.parametrize("width", [120, 80, 60, 40])
@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
@pytest.mark.usefixtures("at_home")
def test_the_output_fits_a_narrow_terminal(args: tuple[str, ...], width: int, terminal: Callable[[int], Terminal]):
    stream = terminal(width)
    client = ScriptedClient(ScriptedRun(run_state(status=Status.QUEUED, queue="q" * 20)), workers=())
    workers = (OURS, replace(STOCK, name="6" * 32))
    client.insight = ScriptedInsight(workers=workers, queues=QUEUES, stats=STATS)  # type: ignore[attr-defined]
    assert cli.main(args, standalone_mode=False, obj=ScriptedOptions(client=client)) == 0
    lines = stream.getvalue().splitlines()
    assert lines
    assert max(columns(line) for line in lines) <= width
    assert "\x1b" not in stream.getvalue()
