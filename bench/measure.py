"""What a measurement is made of: workloads, the peers that do them, samples, and child processes that take them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentq.errors import StoreUnavailable
from agentq.private_redis import INSTALL, RedisServer, find_program

if TYPE_CHECKING:
    from pathlib import Path

    import redis

# The figures of one round, by name.
Sample = Mapping[str, float]
# A child that takes longer is stuck.
_PATIENCE_S = 600


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a sample. The first figure of a workload is the one that peers are compared by."""

    name: str
    digits: int


class Peer(Protocol):
    """Something that can do the work: agentq, or what people use in its place."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> str:
        """How it was set up, in words."""
        ...

    def measure(self, server: RedisServer, runs: int) -> Sample:
        """Do the work once on an empty server. `runs` says how much."""
        ...


@dataclass(frozen=True, slots=True)
class Workload:
    """Work that several peers do. agentq is the first of them."""

    name: str
    question: str
    description: str
    figures: tuple[Figure, ...]
    peers: tuple[Peer, ...]
    runs: int
    runs_quick: int


def new_server(folder: Path) -> RedisServer:
    """A private server without persistence. Raises `StoreUnavailable`."""
    program = find_program()
    if program is None:
        raise StoreUnavailable(f"there is no redis-server on this machine; install one: {INSTALL}")
    folder.mkdir()
    server = RedisServer(program, folder)
    server.start()
    return server


def in_child(module: str, *arguments: object) -> dict[str, float]:
    """Run `python -m module arguments` and return the JSON that it prints at the end."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    if child.returncode != 0:
        raise RuntimeError(f"{module} failed:\n{child.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return figures


def server_cpu_s(client: redis.Redis) -> float:
    """The CPU time that the server has used so far."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def throughput(steps: int, *, seconds: float, worker_cpu_s: float, redis_cpu_s: float) -> Sample:
    """The figures of a workload that counts steps."""
    return {
        THROUGHPUT.name: steps / seconds,
        WORKER_CPU.name: 1000 * worker_cpu_s / steps,
        REDIS_CPU.name: 1000 * redis_cpu_s / steps,
    }


THROUGHPUT = Figure("steps/s", 0)
WORKER_CPU = Figure("CPU ms per step, worker", 3)
REDIS_CPU = Figure("CPU ms per step, redis-server", 3)
