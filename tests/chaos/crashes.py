"""Worker processes that can be killed, and what must be true of the runs that they carried."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agentq import Client

TWO_PAYMENTS = """\
call look_up {"name": "a", "seconds": 0.01} & call look_up {"name": "b", "seconds": 0.03}
call send {"name": "c", "seconds": 0.02} & call charge {"name": "d", "seconds": 0.02}
call charge {"name": "e", "seconds": 0.01} & call look_up {"name": "f", "seconds": 0.01}
stream 20 "word " 0.002
"""
OUTPUT = "word " * 20


@dataclass
class Fleet:
    """Worker processes of the chaos deployment."""

    redis_url: str
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def start(self) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "REDIS_URL": self.redis_url,
            "CHAOS_LEDGER": str(self.ledger),
            "PYTHONPATH": str(ROOT),
            **self.environ,
        }
        command = [sys.executable, "-m", "agentq", "--app", "tests.chaos.deployment:app", "worker"]
        with (self.folder / "workers.log").open("ab") as log:
            worker = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a power cut would."""
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def end(self) -> None:
        for worker in tuple(self.workers):
            self.kill(worker)

    def happened(self) -> list[list[str]]:
        """The ledger's lines, as words."""
        return [line.split() for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []

    def log(self) -> str:
        return (self.folder / "workers.log").read_text()


def check(client: Client, run_ids: list[str], happened: list[list[str]]) -> None:
    """What is promised of every run, however often its workers died."""
    charges = Counter(call_id for what, _, call_id, *_ in happened if what == "charge-start")
    assert all(count == 1 for count in charges.values()), f"charged more than once: {charges.most_common(3)}"
    for run_id in run_ids:
        messages = client.messages(run_id)
        calls = [call.call_id for message in messages for call in message.tool_calls]
        results = [result for message in messages for result in message.tool_results]
        assert calls == [result.call_id for result in results], f"run {run_id} has calls without a result"
        finished = Counter(call_id for what, run, call_id, *_ in happened if what.endswith("-end") and run == run_id)
        for result in results:
            # A result that says ok was returned once by a call that came to its end.
            assert result.outcome != "ok" or result.name == "look_up" or finished[result.call_id] >= 1
        events = list(client.events(run_id, live=False))
        gone = {
            number for event in events if event.type == "attempt.reset" for number in range(event.first, event.last + 1)
        }
        numbers = [event.seq for event in events]
        assert numbers == sorted(set(numbers))
        assert set(range(1, numbers[-1] + 1)) - set(numbers) <= gone, f"run {run_id} has a gap in its events"
        assert not [event for event in events if event.type == "gap"]
        commits = [event.iteration for event in events if event.type == "iteration.finished"]
        assert commits == sorted(set(commits)), f"run {run_id} committed an iteration twice: {commits}"


def check_sessions(client: Client, sessions: Mapping[str, list[str]]) -> None:
    """The runs of each session went on one after the other, in the order in which they were enqueued."""
    for session_id, run_ids in sessions.items():
        assert client.session(session_id).open_runs == 0
        assert client.session_messages(session_id) == tuple(
            message for run_id in run_ids for message in client.messages(run_id)
        ), f"session {session_id} is not what its runs said, in their order"
        states = [client.read(run_id) for run_id in run_ids]
        assert [state.history_length for state in states] == [
            sum(each.message_count for each in states[:number]) for number in range(len(states))
        ], f"a run of session {session_id} saw another past"
        for before, after in pairwise(run_ids):
            ended = [event.at_ms for event in client.events(before, live=False)][-1]
            began = next(event.at_ms for event in client.events(after, live=False) if event.type == "run.started")
            assert ended <= began, f"run {after} began before run {before} of its session had ended"
