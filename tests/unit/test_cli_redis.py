"""The command line over a real Redis and a real worker, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHAIN = 'call add_numbers {"a": 7, "b": 9}\ncall multiply_numbers {"a": "$1", "b": 12}\nsay It is $2.'


@pytest.fixture
def start(redis_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `agentq` with arguments, on this test's Redis; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def agentq(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentq", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
        )
        started.append(process)
        return process

    yield agentq
    for process in started:
        process.kill()
        process.communicate()


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_a_run_from_one_terminal_worked_on_in_another_and_watched_in_a_third(
    start: Callable[..., subprocess.Popen[str]],
):
    follower = start("enqueue", "calculator", CHAIN, "--follow", "--session", "s1", "--meta", "a=1")
    assert follower.stdout is not None
    run_id = follower.stdout.readline().strip()
    worker = start("worker", "--log-format", "json")
    code, followed, _ = done(follower)
    lines = followed.splitlines()
    assert code == 0
    assert "→ add_numbers(a=7, b=9)" in lines
    assert "→ multiply_numbers(a=16, b=12)" in lines
    assert lines[-2] == "It is 192."
    assert lines[-1].startswith("✓ completed · 3 iterations · 2 tools · ")

    assert done(start("tail", run_id)) == (0, followed, "")
    code, late, _ = done(start("tail", run_id, "--json"))
    events = [json.loads(line) for line in late.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))

    document = json.loads(done(start("show", run_id, "--json"))[1])
    assert document["run"].items() >= {"status": "completed", "session_id": "s1", "metadata": {"a": "1"}}.items()
    assert [message["role"] for message in document["messages"]][-1] == "assistant"
    listed = json.loads(done(start("ls", "--status", "completed", "--json"))[1])
    assert [run["run_id"] for run in listed["runs"]] == [run_id]
    code, _, complaint = done(start("cancel", run_id))
    assert code == 6
    assert complaint.startswith("error: ")

    worker.send_signal(signal.SIGTERM)
    code, out, log = done(worker)
    assert (code, out) == (0, "")
    entries = [json.loads(line) for line in log.splitlines()]
    assert [entry["iteration"] for entry in entries if entry.get("run_id") == run_id and "tools" in entry] == [1, 2, 3]


def test_the_same_key_gives_the_same_run_and_with_other_input_a_conflict(start: Callable[..., subprocess.Popen[str]]):
    first = done(start("enqueue", "calculator", "hi", "--key", "k"))
    assert first[0] == 0
    assert done(start("enqueue", "calculator", "hi", "--key", "k"))[:2] == first[:2]
    code, out, err = done(start("enqueue", "calculator", "other", "--key", "k"))
    assert (code, out) == (6, "")
    assert "--key" in err
    assert len(json.loads(done(start("ls", "--json"))[1])["runs"]) == 1


def test_a_queued_run_is_listed_shown_and_cancelled_without_any_worker(start: Callable[..., subprocess.Popen[str]]):
    run_id = done(start("enqueue", "calculator", "hello there"))[1].strip()
    row = done(start("ls"))[1].splitlines()[1].split()
    assert (row[0], row[1], row[2], row[-2:]) == (run_id, "queued", "calculator", ["hello", "there"])
    assert done(start("cancel", run_id, "--reason", "enough"))[:2] == (0, f"{run_id} cancelled\n")
    code, out, _ = done(start("tail", run_id))
    assert code == 4
    assert "⊘ cancel requested: enough\n⊘ cancelled · 0 iterations" in out


def test_ctrl_c_detaches_and_the_run_can_be_watched_from_there(start: Callable[..., subprocess.Popen[str]]):
    run_id = done(start("enqueue", "calculator", "hello"))[1].strip()
    viewer = start("tail", run_id)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "calculator: hello\n"
    viewer.send_signal(signal.SIGINT)
    code, _, err = done(viewer)
    assert code == 130
    assert err.endswith(f"detached; the run goes on. Come back with: agentq tail {run_id} --after 1\n")
    again = start("tail", run_id, "--after", "1")
    assert done(start("worker", "--burst"))[0] == 0
    code, out, _ = done(again)
    assert code == 0
    assert out.splitlines()[1] == "hello"


def test_a_viewer_of_a_queue_without_a_worker_is_told(start: Callable[..., subprocess.Popen[str]]):
    viewer = start("enqueue", "calculator", "hello", "--follow", "-q", "slow")
    assert viewer.stderr is not None
    heard: list[str] = []

    def told() -> bool:
        assert viewer.stderr is not None
        heard.append(viewer.stderr.readline())
        return "no worker on queue slow; start: agentq worker -q slow\n" in heard

    wait_until_sync(told)
