"""What a measurement is made of: workloads, their cases, the peers that do them, the goals, and child processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agentq.errors import StoreUnavailable
from agentq.private_redis import INSTALL, RedisServer, find_program

if TYPE_CHECKING:
    import redis

# The figures of one round, by name.
Sample = Mapping[str, float]
# A child that takes longer is stuck.
_PATIENCE_S = 600


class Unable(Exception):
    """A peer cannot do a case of the work, for the reason that this says."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a sample. The first figure of a workload is the one that is plotted."""

    name: str
    digits: int


@dataclass(frozen=True, slots=True)
class Case:
    """One size of the work. `runs` says how much of it a round does, `size` what grows from case to case."""

    name: str
    runs: int
    runs_quick: int = 0  # 0: not in the quick mode
    size: int = 0


class Sense(StrEnum):
    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the first peer of a workload must show: a limit for a figure, or for its ratio to another one.

    That is another peer's, or with `against_case` its own in that case.
    """

    figure: Figure
    sense: Sense
    limit: float
    case: str = ""  # empty: the only case of the workload
    against: tuple[str, ...] = ()  # names of peers; with several, the best of them
    against_case: str = ""

    def met(self, value: float) -> bool:
        return value >= self.limit if self.sense is Sense.AT_LEAST else value <= self.limit


@dataclass(frozen=True, slots=True)
class Bed:
    """Where a peer does its work: a Redis and a folder of its own, both empty at the start of a round."""

    server: RedisServer
    folder: Path


class Peer(Protocol):
    """Something that can do the work: agentq, or what people use in its place."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> str:
        """How it was set up, in words. Read after `prepare`."""
        ...

    @property
    def slow(self) -> bool:
        """Left out of the quick mode."""
        ...

    def prepare(self) -> None:
        """Install what it needs, once before the first round. Raises `RuntimeError`."""
        ...

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        """Do the work of a case once. Raises `Unable` where the peer cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Workload:
    """Work that several peers do. agentq is the first of them."""

    name: str
    question: str
    description: str
    figures: tuple[Figure, ...]
    peers: tuple[Peer, ...]
    cases: tuple[Case, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    rounds: int = 5
    rounds_quick: int = 3
    size_name: str = field(default="")  # what `Case.size` counts: the horizontal axis of the plot


def new_server(folder: Path) -> RedisServer:
    """A private server without persistence. Raises `StoreUnavailable`."""
    program = find_program()
    if program is None:
        raise StoreUnavailable(f"there is no redis-server on this machine; install one: {INSTALL}")
    folder.mkdir()
    server = RedisServer(program, folder)
    server.start()
    return server


def in_child(module: str, *arguments: object, python: Path | str = sys.executable) -> dict[str, float]:
    """Run `python -m module arguments` and return the JSON that it prints at the end. Raises `RuntimeError`."""
    command = [str(python), "-m", module, *map(str, arguments)]
    child = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
    )
    if child.returncode != 0:
        raise RuntimeError(f"{module} failed:\n{child.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return figures


def server_cpu_s(client: redis.Redis) -> float:
    """The CPU time that the server has used so far."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def throughput(steps: int, *, seconds: float, worker_cpu_s: float, redis_cpu_s: float = 0) -> Sample:
    """The figures of a workload that counts steps."""
    return {
        THROUGHPUT.name: steps / seconds,
        WORKER_CPU.name: 1000 * worker_cpu_s / steps,
        REDIS_CPU.name: 1000 * redis_cpu_s / steps,
    }


ROOT = Path(__file__).parent.parent
THROUGHPUT = Figure("steps/s", 0)
WORKER_CPU = Figure("CPU ms per step, worker", 3)
REDIS_CPU = Figure("CPU ms per step, redis-server", 3)
