"""What a shell offers while a command line is being typed: the real command, a real Redis, and a real bash."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import redis

from agentq import AsyncClient, Settings
from agentq.wiring import redis_parts
from tests.helpers import ROOT
from tests.unit._desk import REFUND, SHIP, Desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def offered(redis_url: str) -> Callable[..., list[str]]:
    """The words that are offered for the last one of a command line; its errors would be on the user's screen."""

    def ask(
        line: str, url: str = redis_url, *, with_help: bool = False, path: str = str(ROOT), **environ: str
    ) -> list[str]:
        words = line.split(" ")
        done = subprocess.run(
            [sys.executable, "-m", "agentq"],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "REDIS_URL": url,
                **environ,
                "_AGENTQ_COMPLETE": "zsh_complete" if with_help else "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
            },
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        if with_help:
            return done.stdout.splitlines()
        return [text.partition(",")[2] for text in done.stdout.splitlines() if text]

    return ask


@pytest.fixture
async def runs(redis_url: str) -> list[str]:
    """Two runs, one in a session, and an agent that workers have published. Newest first, as they are offered."""

    async with AsyncClient(redis_url) as client:
        first = await client.enqueue("calculator", "What is 7 + 9?", session_id="chat-1")
        second = await client.enqueue("calculator", "And 8?")
    parts = redis_parts(Settings(redis_url=redis_url))
    await parts.store.publish_agents({"calculator": {"model": "mock"}, "poet": {"model": "mock"}})
    await parts.aclose()
    return [second.id, first.id]


def test_commands_options_and_choices_are_offered(offered: Callable[..., list[str]]):
    assert offered("agentq e") == ["enqueue", "export"]
    assert offered("agentq ls --status c") == ["completed", "cancelled"]
    assert offered("agentq tail --a") == ["--after", "--app"]


def test_runs_agents_and_sessions_are_offered(offered: Callable[..., list[str]], runs: list[str]):
    for command in ("tail", "show", "why", "cancel", "export"):
        assert offered(f"agentq {command} ") == runs
    assert offered(f"agentq show {runs[0][:-1].lower()}") == [runs[0]]
    assert offered(f"agentq tail {runs[0]} ") == [runs[1]]
    assert offered("agentq enqueue ") == ["calculator", "poet"]
    assert offered("agentq ls --agent p") == ["poet"]
    assert offered("agentq sessions ") == offered("agentq enqueue poet --session c") == ["chat-1"]


def test_what_waits_for_people_and_workers_are_offered(offered: Callable[..., list[str]], redis_url: str):
    desk = Desk(redis_url)
    refund, ship = desk.enqueue("clerk", REFUND), desk.enqueue("shipper", SHIP)
    assert offered("agentq approve ") == offered("agentq deny ") == [f"{refund}.1.0"]
    assert offered("agentq answer ") == [f"{ship}.1.0"]
    assert "? Which box?" in offered("agentq answer ", with_help=True)
    assert offered("agentq signal 0") == offered("agentq limit 0") == [ship, refund]
    assert offered("agentq workers ") == ["quiet", "resume"]
    with redis.Redis.from_url(redis_url) as connection:
        record = {"birth": "2026-01-01T00:00:00Z", "queues": "default", "state": "idle", "agentq_version": "1"}
        connection.hset("rq:worker:w1", mapping=record)
        connection.sadd("rq:workers", "rq:worker:w1")
    assert offered("agentq workers quiet ") == offered("agentq workers resume ") == ["w1"]


def test_a_shell_that_shows_help_gets_it(offered: Callable[..., list[str]], runs: list[str]):
    assert f"{runs[1]}\nqueued · What is 7 + 9?" in "\n".join(offered("agentq show ", with_help=True))


def test_the_redis_that_the_line_names_is_asked(offered: Callable[..., list[str]], runs: list[str], redis_url: str):
    assert offered(f"agentq --redis {redis_url} show ", NOBODY) == runs


@pytest.mark.parametrize("url", [NOBODY, "nonsense"])
def test_without_redis_nothing_is_offered_and_nothing_is_said(offered: Callable[..., list[str]], url: str):
    for line in ("agentq tail ", "agentq enqueue ", "agentq sessions "):
        assert offered(line, url) == []


def test_a_redis_that_does_not_answer_keeps_no_shell_waiting(offered: Callable[..., list[str]]):
    """It accepts the connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert offered("agentq tail ", f"redis://127.0.0.1:{mute.getsockname()[1]}/0") == []


def test_a_name_that_is_looked_up_for_long_keeps_no_shell_waiting(offered: Callable[..., list[str]], tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\nsocket.getaddrinfo = lambda *args, **options: time.sleep(600)\n"
    )
    assert offered("agentq tail ", "redis://localhost:1/0", path=f"{tmp_path}:{ROOT}") == []


def test_help_that_the_shell_cannot_show_is_no_error(offered: Callable[..., list[str]], runs: list[str]):
    shown = offered("agentq show ", with_help=True, PYTHONIOENCODING="ascii")
    assert f"{runs[1]}\nqueued ? What is 7 + 9?" in "\n".join(shown)


def test_bash_itself_completes_with_the_script(redis_url: str, runs: list[str], tmp_path: Path):
    bash = shutil.which("bash")
    assert bash, "this test needs bash"
    (tmp_path / "agentq").write_text(f'#!/bin/sh\nexec {sys.executable} -m agentq "$@"\n')
    (tmp_path / "agentq").chmod(0o755)
    script = (
        'eval "$(agentq completion bash)"\n'
        "COMP_WORDS=(agentq show 01); COMP_CWORD=2; _agentq_completion agentq\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "-c", script],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (runs, "")


@pytest.mark.parametrize(
    ("args", "shell", "code", "words"),
    [
        (
            [],
            "/bin/tcsh",
            2,
            "your shell is 'tcsh', for which there is no completion; name one: bash, zsh, fish",
        ),
        ([], "", 2, "error: your shell is not known; name one: bash, zsh, fish"),
        (["powershell"], "/bin/bash", 2, "'powershell' is not one of 'bash', 'zsh', 'fish'"),
        ([], "/usr/bin/fish", 0, "# agentq completion fish | source"),
        (["zsh"], "/bin/bash", 0, "#compdef agentq"),
    ],
)
def test_the_script_is_for_the_shell_that_is_named_or_used(args: list[str], shell: str, code: int, words: str):
    done = subprocess.run(
        [sys.executable, "-m", "agentq", "completion", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SHELL": shell},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert words in (done.stderr if code else done.stdout)


def test_completing_a_command_imports_none_of_them():
    script = (
        "import os, sys\n"
        "os.environ.update(_AGENTQ_COMPLETE='bash_complete', COMP_WORDS='agentq t', COMP_CWORD='1')\n"
        "from agentq.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    loaded = [name for name in sys.modules if name.startswith(('agentq.cli.', 'redis', 'rq', 'pydantic'))]\n"
        "    print(sorted(loaded), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,tail"]
    assert done.stderr.strip() == "['agentq.cli._errors', 'agentq.cli._group', 'agentq.cli._output']"
