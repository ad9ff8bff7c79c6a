"""Forks workers: a process that has imported everything once starts a worker within moments.

It reads lines on stdin, each the arguments of a worker, and answers with the process id of that worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

APP = "tests.chaos.deployment:app"


def main() -> None:
    """Serve until stdin ends. One thread, no event loop: only so is it safe to fork."""
    from agentq.cli import cli

    # The command's own imports too.
    from agentq.cli import worker as _worker  # noqa: F401
    from agentq.worker import lifecycle as _lifecycle  # noqa: F401
    from tests.chaos import deployment as _deployment  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_worker(cli, line.split())
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become_worker(cli: Any, arguments: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    os.close(0)
    os.dup2(2, 1)
    try:
        cli.main(["--app", APP, "worker", "--log-level", "warning", *arguments], prog_name="agentq")
    finally:
        os._exit(0)


class Forge:
    """A forge of this process's own."""

    def __init__(self, log: Path, environ: dict[str, str]) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.forge"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                start_new_session=True,
            )
        self.alive: list[int] = []

    def start(self, *arguments: str) -> int:
        """A new worker with these arguments; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the forge has ended; its log says why")
        self.alive.append(int(answer))
        return int(answer)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a worker that was not seen to end."""
        os.kill(pid, number)

    def kill(self, pid: int) -> None:
        """End a worker as a power cut would."""
        self.alive.remove(pid)
        os.kill(pid, signal.SIGKILL)

    def terminate(self, pid: int) -> None:
        """Ask a worker to end."""
        self.alive.remove(pid)
        os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """End all workers, and the forge."""
        for pid in tuple(self.alive):
            self.kill(pid)
        self._process.communicate(timeout=10)


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_gone(pid: int, timeout_s: float = 40.0) -> float:
    """How long it took until the process had ended, in seconds."""
    began = time.monotonic()
    while is_running(pid):
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.005)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
