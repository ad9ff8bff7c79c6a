"""Worker processes that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path


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
