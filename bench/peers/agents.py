"""Libraries for durable agents, each in its own environment, on the same three iterations."""

from __future__ import annotations

from dataclasses import dataclass

from bench.environments import environment, versions
from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Bed, Case, Sample, in_child, throughput
from bench.programs.measuring import ITERATIONS

# They are slower; their figures are per iteration all the same.
_SHARE = 5


@dataclass(frozen=True, slots=True)
class AgentLibrary:
    """A library, its program in bench/programs, and what its environment is made of."""

    name: str
    program: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    does: str
    is_on_redis: bool = False
    slow: bool = True

    @property
    def settings(self) -> str:
        return f"{versions(environment(self.program, self.requirements), self.packages)}; {self.does}"

    def prepare(self) -> None:
        environment(self.program, self.requirements)

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        runs = max(runs // _SHARE, 1)
        python = environment(self.program, self.requirements)
        place = bed.server.url if self.is_on_redis else bed.folder
        took = in_child(f"bench.programs.{self.program}_agent", place, runs, python=python)
        sample = throughput(runs * ITERATIONS, **took)
        figures = (THROUGHPUT, WORKER_CPU, REDIS_CPU) if self.is_on_redis else (THROUGHPUT, WORKER_CPU)
        return {figure.name: sample[figure.name] for figure in figures}


LANGGRAPH = AgentLibrary(
    "LangGraph",
    "langgraph",
    ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2"),
    ("langgraph", "langgraph-checkpoint-sqlite"),
    "its SQLite checkpointer on a file, a thread for each run; no worker and no queue, the runs one after the other",
)
HAYHOOKS = AgentLibrary(
    "Hayhooks",
    "hayhooks",
    ("hayhooks==2.1.0", "haystack-ai==3.4.1", "redis==7.4.1"),
    ("hayhooks", "haystack-ai", "redis"),
    (
        "a durable Agent of Haystack on Redis, a checkpoint after each step; one worker with 10 slots in place of 1, "
        "without its HTTP server; the runs are submitted before"
    ),
    is_on_redis=True,
)
DBOS = AgentLibrary(
    "DBOS",
    "dbos",
    ("dbos==3.4.0",),
    ("dbos",),
    "a workflow on SQLite, model and tool calls as steps; no queue, the runs one after the other",
)
