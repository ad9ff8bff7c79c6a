"""RQ's command line."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.commands import ENQUEUE, HELP, QUEUES, WORKER, median_ms, program

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample


class RqCommands:
    name = "rq"
    slow = False

    @property
    def settings(self) -> str:
        return f"{version('rq')}: rq enqueue of an empty job, rq info, rq worker"

    def prepare(self) -> None:
        """agentq needs RQ itself."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        url = ["--url", bed.server.url]
        arguments = {
            HELP: ["--help"],
            ENQUEUE: ["enqueue", *url, "bench.peers.rq_simple.step", "0"],
            QUEUES: ["info", *url],
            WORKER: ["worker", *url],
        }
        command = [program("rq"), *arguments[case.name]]
        return median_ms(command, bed, times=runs, registers=case.name == WORKER)
