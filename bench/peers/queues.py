"""Queues that keep no state, each in its own environment: bare chains of jobs, and jobs that wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bench.environments import environment, versions
from bench.latency import latency
from bench.measure import Bed, Case, Sample, Unable, in_child, throughput
from bench.peers.agentq_in_flight import IDEAL, THINK_S
from bench.programs.measuring import JOBS, WARM_UP_JOBS

_SLOTS = 100
# Two chains of six jobs do as many steps as four runs of three iterations.
_RUNS_PER_CHAIN = 2


@dataclass(frozen=True, slots=True)
class QueueLibrary:
    """A library, its program in bench/programs, and what its environment is made of."""

    name: str
    program: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]

    def prepare(self) -> None:
        environment(self.program, self.requirements)

    @property
    def versions(self) -> str:
        return versions(environment(self.program, self.requirements), self.packages)

    def run(self, url: str, mode: str, jobs: int, concurrency: int) -> dict[str, float]:
        python = environment(self.program, self.requirements)
        return in_child(f"bench.programs.{self.program}_worker", url, mode, jobs, concurrency, python=python)


TASKIQ = QueueLibrary(
    "taskiq", "taskiq", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0"), ("taskiq", "taskiq-redis", "redis")
)
SAQ = QueueLibrary("saq", "saq", ("saq[redis]==0.26.4", "redis==7.4.1", "typing_extensions>=4.12"), ("saq", "redis"))


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
class Wakes:
    """Jobs that another process enqueues one after the other, while there is nothing else to do."""

    library: QueueLibrary
    slow: bool = False

    @property
    def name(self) -> str:
        return self.library.name

    @property
    def settings(self) -> str:
        return f"{self.library.versions}; an idle worker, and a job that notes when it is called"

    def prepare(self) -> None:
        self.library.prepare()

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        if case.size:
            raise Unable("measured idle only")
        took: Any = self.library.run(bed.server.url, "wake", runs + WARM_UP_JOBS, _SLOTS)
        return latency(took["took_ns"])


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
