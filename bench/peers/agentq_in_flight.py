"""agentq's worker on runs that wait on their model, as many at once as it has slots."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import redis

from agentq import Settings
from agentq._redis.keys import Keys
from bench.measure import Figure
from bench.peers.agentq_live import WAITS, WARM_UP, live_worker, report, seed

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

IDEAL = Figure("x ideal", 2)
AT_ONCE = Figure("open calls at most", 0)
MB = Figure("MB resident", 0)
KB_PER_RUN = Figure("KB per open call", 1)
THINK_S = 1
# Slower than any worker claims, so that the last call is open before the first one ends.
_CLAIMED_PER_S = 1000
_LOOK_S = 0.005
_PATIENCE_S = 120


class AgentqInFlight:
    name = "agentq worker"
    slow = False
    settings = "as many slots as runs in flight, the other settings by default; runs of one durable iteration"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        """Time the runs, then let as many as there are slots wait so long that all are open at once."""
        held = min(runs, case.size)
        with live_worker(bed, concurrency=case.size) as worker, redis.Redis.from_url(bed.server.url) as client:
            _seed(bed, runs, THINK_S)
            worker.tell("go")
            ended_ns = _wait(client, runs)
            _seed(bed, held, max(held / _CLAIMED_PER_S, 1))
            _wait(client, runs + held)
            said = report(worker, runs + held)
        at_once = said["open_at_most"]
        return {
            IDEAL.name: (ended_ns - said["began_ns"]) / 1e9 / (math.ceil(runs / case.size) * THINK_S),
            AT_ONCE.name: at_once,
            MB.name: said["peak_kb"] / 1024,
            KB_PER_RUN.name: (said["peak_kb"] - said["idle_kb"]) / at_once,
        }


def _seed(bed: Bed, runs: int, wait_s: float) -> None:
    asyncio.run(seed(bed.server.url, [(WAITS, str(wait_s))] * runs))


def _wait(client: redis.Redis, runs: int) -> int:
    """Return the time at which so many runs have completed, beside those of the warm-up."""
    completed = Keys(Settings().prefix).listing("status", "completed")
    until = time.monotonic() + _PATIENCE_S
    while (done := client.zcard(completed) - len(WARM_UP)) < runs:
        if time.monotonic() > until:
            raise RuntimeError(f"{done} of {runs} runs in {_PATIENCE_S} s")
        time.sleep(_LOOK_S)
    return time.monotonic_ns()
