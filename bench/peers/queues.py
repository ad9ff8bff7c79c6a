"""Queues that keep no state, each in its own environment: bare chains of jobs, and jobs that wait."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child
from bench.environments import environment, versions
from bench.measure import Bed, Case, Sample, in_child, throughput
from bench.peers.agentq_in_flight import IDEAL, THINK_S
from bench.programs.measuring import JOBS

_SLOTS = 100
# Two chains of six jobs do as many steps as four runs of three iterations.
_RUNS_PER_CHAIN = 2


@dataclass(frozen=True, slots=True)
class QueueLibrary:
    """A library, its program in bench/programs, and what its environment is made of: agentq's own, if of nothing."""

    name: str
    program: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]

    def prepare(self) -> None:
        _ = self._python

    @property
    def versions(self) -> str:
        return versions(self._python, self.packages)

    def run(self, url: str, mode: str, jobs: int, concurrency: int) -> dict[str, float]:
        return in_child(self._module, url, mode, jobs, concurrency, python=self._python)

    def child(self, url: str, mode: str, jobs: int, concurrency: int) -> Child:
        """Its program as one of several processes that take part in a measurement."""
        return Child(self._module, url, mode, jobs, concurrency, python=self._python)

    @property
    def _module(self) -> str:
        return f"bench.programs.{self.program}_worker"

    @property
    def _python(self) -> Path:
        return environment(self.program, self.requirements) if self.requirements else Path(sys.executable)


TASKIQ = QueueLibrary(
    "taskiq", "taskiq", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0"), ("taskiq", "taskiq-redis", "redis")
)
SAQ = QueueLibrary("saq", "saq", ("saq[redis]==0.26.4", "redis==7.4.1", "typing_extensions>=4.12"), ("saq", "redis"))
RQ = QueueLibrary("RQ SimpleWorker", "rq", (), ("rq", "redis"))


@dataclass(frozen=True, slots=True)
class Chain:
    """Empty jobs, each of which enqueues the next."""

    library: QueueLibrary
    slow: bool = False

    @property
    def name(self) -> str:
        return self.library.name

    @property
    def settings(self) -> str:
        return (
            f"{self.library.versions}; chains of {JOBS} empty jobs, each enqueues the next; {_SLOTS} at once, no "
            "results and no state kept, log level warning"
        )

    def prepare(self) -> None:
        self.library.prepare()

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        chains = max(runs // _RUNS_PER_CHAIN, 1)
        return throughput(chains * JOBS, **self.library.run(bed.server.url, "chain", chains, _SLOTS))


@dataclass(frozen=True, slots=True)
class Waits:
    """Jobs that wait a second."""

    library: QueueLibrary
    slow: bool = True

    @property
    def name(self) -> str:
        return self.library.name

    @property
    def settings(self) -> str:
        return f"{self.library.versions}; jobs that wait {THINK_S} s and do nothing else, as many at once"

    def prepare(self) -> None:
        self.library.prepare()

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        took = self.library.run(bed.server.url, "sleep", runs, case.size)
        return {IDEAL.name: took["seconds"] / (math.ceil(runs / case.size) * THINK_S)}
