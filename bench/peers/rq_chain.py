"""RQ's workers on bare chains of jobs: each job enqueues the next one, and no state is kept.

Run as a module it is the worker process: `python -m bench.peers.rq_chain REDIS_URL simple|fork`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from rq import Queue, SimpleWorker, Worker, get_current_job

from bench.measure import in_child, server_cpu_s, throughput
from bench.programs.measuring import JOBS

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

QUEUE = "bench"
# Two chains of six jobs do as many steps as four runs of three iterations.
_RUNS_PER_CHAIN = 2
# A process for each job takes its time; its figures are per job all the same.
_RUNS_PER_CHAIN_FORKED = 20


def step(left: int) -> None:
    """The job: nothing but the next one."""
    job = get_current_job()
    if left and job is not None:
        Queue(QUEUE, connection=job.connection).enqueue(step, left - 1, result_ttl=0)


@dataclass(frozen=True, slots=True)
class RqChain:
    """One worker of RQ. `mode` says whether it forks for each job."""

    name: str
    mode: str
    slow: bool = False

    @property
    def settings(self) -> str:
        return f"chains of {JOBS} empty jobs, each enqueues the next; result_ttl=0, log level warning, no state kept"

    def prepare(self) -> None:
        """agentq needs RQ itself."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        chains = max(runs // (_RUNS_PER_CHAIN if self.mode == "simple" else _RUNS_PER_CHAIN_FORKED), 1)
        with redis.Redis.from_url(bed.server.url) as client:
            queue = Queue(QUEUE, connection=client)
            for _ in range(chains):
                queue.enqueue(step, JOBS - 1, result_ttl=0)
        return throughput(chains * JOBS, **in_child("bench.peers.rq_chain", bed.server.url, self.mode))


RQ_SIMPLE = RqChain("RQ SimpleWorker", "simple")
RQ_FORKING = RqChain("RQ Worker", "fork", slow=True)


def _cpu_s() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """The worker process."""
    kind = SimpleWorker if sys.argv[2] == "simple" else Worker
    with redis.Redis.from_url(sys.argv[1]) as client:
        worker = kind([QUEUE], connection=client)
        redis_cpu_s, worker_cpu_s, began = server_cpu_s(client), _cpu_s(), time.perf_counter()
        worker.work(burst=True, logging_level="WARNING")
        figures = {
            "seconds": time.perf_counter() - began,
            "worker_cpu_s": _cpu_s() - worker_cpu_s,
            "redis_cpu_s": server_cpu_s(client) - redis_cpu_s,
        }
        if Queue(QUEUE, connection=client).count or Queue(QUEUE, connection=client).failed_job_registry.count:
            raise SystemExit("RQ has left jobs behind")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
