"""`agentq dev` as a process: Redis, workers, what happens, code that changes, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from agentq import Client
from tests.helpers import ROOT, processes_naming, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests._redis_server import RedisServer

APP = '''\
import asyncio

from agentq import Agent, AgentQ, tool


@tool(effect="none")
async def nap(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "{word}"


app = AgentQ(agents=[Agent("sleeper", tools=[nap])])
'''


class Dev:
    """A running `agentq dev` in a project, and what it has printed."""

    def __init__(self, project: Path, state: Path, *args: str, pipe: bool = False, **environ: str) -> None:
        self.project = project
        self.log = project / "dev.log"
        # The project's path is in the command line of all that it starts, by which leftovers would be found.
        given = {"XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agentq", "dev", *args],
                cwd=project,
                env={**os.environ, **given},
                stdout=subprocess.PIPE if pipe else log,
                stderr=log,
                text=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def says(self, words: str) -> re.Match[str]:
        """Wait for something that it prints."""
        wait_until_sync(lambda: re.search(words, self.said()), 30, message=f"{words!r} in {self.log.name}")
        found = re.search(words, self.said())
        assert found is not None
        return found

    @property
    def url(self) -> str:
        return self.says(r"export REDIS_URL=(\S+)")[1]

    def write(self, word: str) -> None:
        (self.project / "workers" / "app.py").write_text(APP.format(word=word))

    def ends(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []
    project = tmp_path / "project"
    (project / "workers").mkdir(parents=True)
    (project / "workers" / "__init__.py").touch()
    (project / "workers" / "app.py").write_text(APP.format(word="old"))

    def start(*args: str, **options: Any) -> Dev:
        started.append(Dev(project, tmp_path / "state", *args, **options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_it_starts_everything_shows_what_happens_and_keeps_the_runs(dev: Callable[..., Dev], tmp_path: Path):
    first = dev()
    first.says(r"agent  sleeper on mock: nap")
    assert re.fullmatch(r"redis://:\w+@127\.0\.0\.1:\d+/0", first.url), "others can use it"
    with Client(first.url) as client:
        run = client.enqueue("sleeper", 'call nap {"seconds": 0.01}\nsay Good morning.')
        assert run.result(timeout=20).output == "Good morning."
    label = run.id[-6:]
    first.says(rf"{label} │ Good morning\.\n{label} │ ✓ completed · 2 iterations")
    assert first.ends(signal.SIGINT) == 130
    assert processes_naming(str(tmp_path)) == []

    (tmp_path / "project" / "dev.log").unlink()
    again = dev()
    assert again.url == first.url
    with Client(again.url) as client:
        assert client.get(run.id).result(timeout=5).output == "Good morning."
    assert again.ends(signal.SIGTERM) == 0


def test_new_code_is_taken_and_runs_in_flight_go_on_with_it(dev: Callable[..., Dev]):
    running = dev("--reload")
    with Client(running.url) as client:
        run = client.enqueue("sleeper", 'call nap {"seconds": 2}')
        running.says(r"→ nap\(seconds=2\)")
        running.write("new")
        running.says(r"workers/app\.py changed: starting again")
        assert run.result(timeout=30).output == "new"

        (running.project / "workers" / "app.py").write_text("x = (")
        running.says(
            r"error: workers\.app cannot be imported: .*SyntaxError.*\n"
            r"no worker can start like this; waiting for the code to change\n"
        )
        running.write("mended")
        running.says(r"changed: starting again\nready again\n$")
        assert client.enqueue("sleeper", 'call nap {"seconds": 0}').result(timeout=30).output == "mended"
        assert run.read().recoveries == 0


def test_a_worker_that_is_killed_is_started_again_and_the_run_goes_on(dev: Callable[..., Dev]):
    running = dev(AGENTQ_LEASE_MS="900")
    with Client(running.url) as client:
        run = client.enqueue("sleeper", 'call nap {"seconds": 1}')
        worker = int(running.says(r"worker agentq-\S+-(\d+)-\w{4}")[1])
        running.says(r"→ nap\(seconds=1\)")
        os.kill(worker, signal.SIGKILL)
        running.says(r"worker 1 ended \(SIGKILL\); the next one starts in 1 s")
        assert run.result(timeout=30).output == "old"


def test_when_it_is_killed_nothing_is_left(dev: Callable[..., Dev], tmp_path: Path):
    running = dev("-n", "2")
    port = running.url.rpartition(":")[2].partition("/")[0]
    assert processes_naming(f"127.0.0.1:{port}")
    running.process.kill()
    running.process.wait()
    wait_until_sync(lambda: not processes_naming(f"127.0.0.1:{port}"), 20)
    wait_until_sync(lambda: not processes_naming(str(tmp_path)), 20)


def test_a_second_one_for_the_project_says_that_there_is_one(dev: Callable[..., Dev]):
    first = dev()
    url = first.url
    second = dev()
    assert second.ends() == 6
    second.says(f"error: agentq dev is running for this project already, with REDIS_URL={url}\n")


def test_another_terminal_that_names_no_redis_is_told_of_it(dev: Callable[..., Dev], tmp_path: Path):
    running = dev()
    url = running.url
    command = [sys.executable, "-m", "agentq", "ls"]
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}

    def said_elsewhere() -> str:
        return subprocess.run(
            command, cwd=running.project, env=environ, capture_output=True, text=True, check=False
        ).stderr

    # Where somebody's own Redis is on the usual port, there is nothing to tell.
    if "cannot be reached" in (said := said_elsewhere()):
        assert said.endswith(f" (agentq dev runs here with its own: export REDIS_URL={url})\n")
    running.ends(signal.SIGTERM)
    assert "agentq dev" not in said_elsewhere()


def test_a_redis_that_is_named_is_used_and_left_alone(dev: Callable[..., Dev], redis_url: str, tmp_path: Path):
    running = dev(REDIS_URL=redis_url)
    where = redis_url.removeprefix("redis://")
    running.says(rf"redis  at {re.escape(where)}, as REDIS_URL or --redis names it\n")
    with Client(redis_url) as client:
        assert client.enqueue("sleeper", "say Here.").result(timeout=20).output == "Here."
    assert running.ends(signal.SIGINT) == 130
    with Client(redis_url) as client:
        assert len(client.list()) == 1
    assert not (tmp_path / "state").exists()


def test_its_first_screen_names_the_queue_that_it_serves(dev: Callable[..., Dev]):
    running = dev("-q", "urgent", "-q", "default.2")
    running.says(r"\n  agentq enqueue sleeper -q urgent 'Hello there\.'\n")
    with Client(running.url) as client:
        assert client.enqueue("sleeper", "hi", queue="urgent").result(timeout=20).output == "hi"


def test_a_password_is_not_shown(dev: Callable[..., Dev], server: RedisServer):
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "open-sesame")
        running = dev("--redis", server.url.replace("redis://", "redis://:open-sesame@"))
        running.says(r"export REDIS_URL=…  # the same as here\n")
        running.says("What happens")
        assert running.ends(signal.SIGTERM) == 0
        assert "sesame" not in running.said()
        client.config_set("requirepass", "")


def test_data_that_redis_cannot_read_is_named(dev: Callable[..., Dev], tmp_path: Path):
    first = dev()
    first.says("What happens")
    first.ends(signal.SIGTERM)
    logs = list((tmp_path / "state").rglob("*.aof"))
    assert logs
    for log in logs:
        log.write_bytes(b"*1\r\nnonsense\r\n*1\r\n$4\r\nPING\r\n")
    second = dev()
    assert second.ends() == 69
    folder = tmp_path / "state" / "agentq" / "dev"
    second.says(
        rf"did not start: .*its data and its log are in {folder}/\S+; it starts afresh when they are moved away"
    )


def test_it_ends_when_whoever_reads_it_has_gone(dev: Callable[..., Dev], tmp_path: Path):
    running = dev(pipe=True)
    assert running.process.stdout is not None
    url = ""
    for line in running.process.stdout:
        url = line.partition("export REDIS_URL=")[2].strip() or url
        if "What happens" in line:
            break
    running.process.stdout.close()
    with Client(url) as client:
        client.enqueue("sleeper", "hi")
    assert running.ends() == 141
    assert "error" not in running.said()
    assert processes_naming(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("args", "environ", "code", "words"),
    [
        (["--app", "nowhere:app"], {}, 2, "error: there is no module 'nowhere' in "),
        (["--app", "nowhere:app", "-n", "3"], {}, 2, "error: there is no module 'nowhere' in "),
        (["-n", "0"], {}, 2, "0 is not in the range 1<=x<=32"),
        (["-q", "no name!"], {}, 2, "queue 'no name!' is not a name"),
        (["-c", "0"], {}, 2, "0 is not in the range"),
        ([], {"REDIS_URL": "nonsense"}, 2, "'nonsense' is not a Redis URL"),
        (
            [],
            {"XDG_STATE_HOME": "/dev/null"},
            2,
            " cannot be written: Not a directory; name another folder with XDG_STATE_HOME, or a Redis with REDIS_URL",
        ),
    ],
)
def test_what_cannot_work_ends_with_one_error(
    dev: Callable[..., Dev], args: list[str], environ: dict[str, str], code: int, words: str
):
    running = dev(*args, **environ)
    assert running.ends() == code
    assert running.said().count("error:") == 1, running.said()
    assert words in running.said()
    assert "stopping" not in running.said()
