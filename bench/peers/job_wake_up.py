"""From enqueue in one process to the call of a job's function in the worker of a queue that keeps no state."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.measure import Bed, Case, Sample, Unable
from bench.peers.agentq_wake_up import LOAD, wake_ups
from bench.programs.waking import PATIENCE_S

if TYPE_CHECKING:
    from bench.children import Child
    from bench.peers.queues import QueueLibrary


@dataclass(frozen=True, slots=True)
class JobWakeUp:
    """Jobs that another process enqueues one after the other, beside those of a load."""

    library: QueueLibrary
    slots: int = 100
    slow: bool = False

    @property
    def name(self) -> str:
        return self.library.name

    @property
    def settings(self) -> str:
        at_once = "one after the other" if self.slots == 1 else f"{self.slots} at once"
        return f"{self.library.versions}; jobs that only note when they are called, {at_once}, no results kept"

    def prepare(self) -> None:
        self.library.prepare()

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        with ExitStack() as stack:

            def child(mode: str, amount: int) -> Child:
                return stack.enter_context(self.library.child(bed.server.url, mode, amount, self.slots))

            worker = child("wake", runs)
            worker.hear()
            load = child("load", case.size) if case.size else None
            if load is not None:
                load.hear()
            sent: dict[str, int] = child("send", runs).hear()
            rate = {}
            if load is not None:
                load.tell("end")
                others, seconds = load.hear()
                rate = {LOAD.name: others / seconds}
            worker.tell("end")
            called: dict[str, int] = worker.hear()
        if late := len(sent.keys() - called.keys()):
            raise Unable(f"{late:,} of {runs:,} jobs were not called within {PATIENCE_S} s after the last")
        return wake_ups(sent, called) | rate
