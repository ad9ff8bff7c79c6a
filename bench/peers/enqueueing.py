"""How fast one process enqueues: agentq's two clients, and RQ's queue.

Run as a module it is the process: `python -m bench.peers.enqueueing REDIS_URL KIND RUNS`, where KIND is `sync`, `rq` or
how many calls are in flight at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from rq import Queue

from agentq import AsyncClient, Client
from bench.measure import Figure, Unable, in_child

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

RATE = Figure("enqueued/s", 0)
CPU_US = Figure("us of CPU each", 0)
SYNC = "one after the other, blocking client"
_WARM_UP = 20
_PROMPT = "What is new? " * 20


@dataclass(frozen=True, slots=True)
class Enqueueing:
    """Enqueues. `kind` is `agentq` or `rq`."""

    name: str
    kind: str
    settings: str
    slow: bool = False

    def prepare(self) -> None:
        """Both are installed with agentq."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        if self.kind == "rq" and case.name != SYNC:
            raise Unable("RQ has no asynchronous client")
        kind = "rq" if self.kind == "rq" else case.size or "sync"
        took = in_child("bench.peers.enqueueing", bed.server.url, kind, runs)
        return {RATE.name: runs / took["seconds"], CPU_US.name: 1e6 * took["cpu_s"] / runs}


AGENTQ = Enqueueing("agentq", "agentq", "a run with a prompt of 260 bytes; no worker runs")
RQ = Enqueueing("RQ", "rq", "a job with an argument of 260 bytes; default serializer; no worker runs")


def _sync(url: str, runs: int) -> float:
    with Client(url) as client:
        for _ in range(_WARM_UP):
            client.enqueue("bench", _PROMPT)
        began = time.process_time(), time.perf_counter()
        for _ in range(runs):
            client.enqueue("bench", _PROMPT)
        return _said(*began)


async def _at_once(url: str, at_once: int, runs: int) -> float:
    async with AsyncClient(url) as client:
        left = iter(range(runs))

        async def enqueue_some() -> None:
            for _ in left:
                await client.enqueue("bench", _PROMPT)

        for _ in range(_WARM_UP):
            await client.enqueue("bench", _PROMPT)
        began = time.process_time(), time.perf_counter()
        await asyncio.gather(*[enqueue_some() for _ in range(at_once)])
        return _said(*began)


def _rq(url: str, runs: int) -> float:
    with redis.Redis.from_url(url) as client:
        queue = Queue("bench", connection=client)
        for _ in range(_WARM_UP):
            queue.enqueue(print, _PROMPT)
        began = time.process_time(), time.perf_counter()
        for _ in range(runs):
            queue.enqueue(print, _PROMPT)
        return _said(*began)


def _said(cpu_s: float, began: float) -> float:
    """Print the figures; returns the seconds."""
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu_s": time.process_time() - cpu_s}))
    return seconds


def main() -> None:
    """The enqueueing process."""
    url, kind, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "rq":
        _rq(url, runs)
    elif kind == "sync":
        _sync(url, runs)
    else:
        asyncio.run(_at_once(url, int(kind), runs))


if __name__ == "__main__":
    main()
