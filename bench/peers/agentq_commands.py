"""agentq's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.commands import ENQUEUE, HELP, QUEUES, WORKER, median_ms, program

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

_ARGUMENTS = {
    HELP: ["--help"],
    ENQUEUE: ["enqueue", "calculator", "What is 2 + 2?"],
    QUEUES: ["queues"],
    WORKER: ["worker"],
}


class AgentqCommands:
    name = "agentq"
    slow = False
    settings = "the app of this checkout: workers.app:app, an agent with six tools"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        command = [program("agentq"), *_ARGUMENTS[case.name]]
        return median_ms(command, bed, times=runs, registers=case.name == WORKER)
