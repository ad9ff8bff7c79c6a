"""The command line as a process of its own: what it imports, pipes that close, colours, places to start from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    *("run", "worker", "enqueue", "tail", "show", "ls", "why", "cancel"),
    *("workers", "queues", "stats", "doctor"),
)
HEAVY = ("redis", "rq", "httpx", "pydantic", "rich", "aiohttp", "asyncio")
NO_REDIS = {"REDIS_URL": "redis://127.0.0.1:1/0"}


def agentq(
    *args: str, cwd: Path = ROOT, stdin: str | None = None, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentq", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        timeout=50,
        input=stdin,
        check=False,
    )


def modules_after(*args: str, **environ: str) -> set[str]:
    """The modules that a command has imported when it exits."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        "from agentq.cli import main\n"
        f"sys.argv = {['agentq', *args]!r}\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("args", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(args: list[str]):
    assert modules_after(*args) & set(HEAVY) == set()


def test_completion_imports_nothing_heavy():
    words = {"_AGENTQ_COMPLETE": "bash_complete", "COMP_WORDS": "agentq t", "COMP_CWORD": "1"}
    assert modules_after(**words) & set(HEAVY) == set()


def test_completion_offers_commands_and_options():
    words = {"_AGENTQ_COMPLETE": "bash_complete", "COMP_WORDS": "agentq t", "COMP_CWORD": "1"}
    assert agentq(environ=words).stdout.split() == ["plain,tail"]
    words |= {"COMP_WORDS": "agentq tail --", "COMP_CWORD": "2"}
    assert {"plain,--after", "plain,--json", "plain,--redis"} <= set(agentq(environ=words).stdout.split())


def test_every_command_is_listed_and_has_help_of_its_own():
    listed = agentq("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed
        assert agentq(command, "--help").stdout.startswith(f"Usage: agentq {command} ")


def test_without_arguments_there_is_help_and_exit_2():
    done = agentq()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: agentq ")


def test_the_checkout_has_a_command_line_of_its_own():
    done = subprocess.run([sys.executable, "cli.py", "--version"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("agentq ")
    assert len((ROOT / "cli.py").read_text().splitlines()) == 6


def test_a_reader_that_leaves_early_is_no_error():
    pipe = subprocess.Popen(
        [sys.executable, "-u", "-m", "agentq", "run", "--model", "mock", "word " * 2000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.readline()
    pipe.stdout.close()
    assert pipe.stderr.read() == ""
    pipe.stderr.close()
    assert pipe.wait(timeout=30) == 141


@pytest.fixture
def without_app(tmp_path: Path) -> Path:
    """A directory whose `workers` hides the one of the checkout, and has no app."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    return tmp_path


def test_run_needs_neither_redis_nor_an_app(without_app: Path):
    done = agentq("run", "--model", "mock", "hello there", cwd=without_app, environ=NO_REDIS)
    assert done.returncode == 0
    no_app, mock = done.stderr.splitlines()
    assert no_app == "no workers/app.py here: using a plain assistant without tools"
    assert mock.startswith("that was `mock`, the built-in model")
    lines = done.stdout.splitlines()
    assert lines[0] == "assistant: hello there"
    assert lines[-2] == "hello there"
    assert lines[-1].startswith("✓ completed · 1 iteration · 0 tools · ")


@pytest.mark.parametrize(
    ("args", "environ"), [(["--app", "workers.app:app"], {}), ([], {"AGENTQ_APP": "workers.app:app"})]
)
def test_an_app_that_was_named_is_not_passed_over(args: list[str], environ: dict[str, str], without_app: Path):
    done = agentq("run", *args, "hi", cwd=without_app, environ=environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no module 'workers.app'")


def test_run_reads_the_prompt_from_standard_input_and_uses_the_app_of_this_directory(tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "from agentq import Agent, AgentQ, tool\n\n\n"
        "@tool(effect='none')\n"
        "def double(x: int) -> int:\n"
        '    """Double it."""\n'
        "    return 2 * x\n\n\n"
        "app = AgentQ(agents=[Agent('first', instructions='', model='mock', tools=[double])])\n"
    )
    done = agentq("run", "--app", "mine:app", "-", cwd=tmp_path, stdin='call double {"x": 4}\nsay It is $1.\n')
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "→ double(x=4)" in lines
    assert any(re.fullmatch(r"← 8(  \d+ ms)?", line) for line in lines)
    assert lines[-2] == "It is 8."


def test_a_run_that_fails_exits_1_and_says_why_once():
    done = agentq("run", "--model", "mock", "fail! 400")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("✗ failed · ")


def test_run_json_is_one_event_per_line():
    done = agentq("run", "--json", "--model", "mock", "hi")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"], events[-1]["output"]) == ("run.queued", "run.completed", "hi")


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--app", "nowhere:app"], "there is no module 'nowhere'"),
        (["--app", "nonsense"], "is not the path of an app"),
        (["--agent", "nobody"], "nobody"),
    ],
)
def test_run_with_what_does_not_exist_exits_2(args: list[str], complaint: str, tmp_path: Path):
    done = agentq("run", *args, "hi", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_app_that_is_there_but_broken_is_not_passed_over(without_app: Path):
    (without_app / "workers" / "app.py").write_text("import not_installed_anywhere\n")
    done = agentq("run", "hi", cwd=without_app)
    assert done.returncode == 2
    assert "not_installed_anywhere" in done.stderr


@pytest.mark.parametrize("args", [["enqueue", "calculator", "hi"], ["ls"], ["tail", "01JD3ZK8W5Q0X9V7T2M4N6P8RA"]])
def test_redis_away_exits_69_with_one_line(args: list[str]):
    done = agentq(*args, environ=NO_REDIS)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_colours_can_be_forced_and_forbidden():
    assert "\x1b[31;1merror:" in agentq("tail", "nonsense", environ={"FORCE_COLOR": "1"}).stderr
    assert "\x1b" not in agentq("tail", "nonsense", environ={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stderr
    assert "\x1b" not in agentq("tail", "nonsense").stderr
