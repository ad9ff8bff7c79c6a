"""RQ's SimpleWorker on bare chains of jobs: each job enqueues the next one, and no state is kept.

Run as a module it is the worker process: `python -m bench.peers.rq_simple REDIS_URL`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import redis
from rq import Queue, SimpleWorker, get_current_job

from bench.measure import in_child, server_cpu_s, throughput

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

QUEUE = "bench"
JOBS = 6
# Two chains of six jobs do as many steps as four runs of three iterations.
_RUNS_PER_CHAIN = 2


def step(left: int) -> None:
    """The job: nothing but the next one."""
    job = get_current_job()
    if left and job is not None:
        Queue(QUEUE, connection=job.connection).enqueue(step, left - 1, result_ttl=0)


class RqSimpleWorker:
    name = "RQ SimpleWorker"
    slow = False
    settings = f"chains of {JOBS} empty jobs, each enqueues the next; result_ttl=0, log level warning, no state kept"

    def prepare(self) -> None:
        """agentq needs RQ itself."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        chains = max(runs // _RUNS_PER_CHAIN, 1)
        with redis.Redis.from_url(bed.server.url) as client:
            queue = Queue(QUEUE, connection=client)
            for _ in range(chains):
                queue.enqueue(step, JOBS - 1, result_ttl=0)
        return throughput(chains * JOBS, **in_child("bench.peers.rq_simple", bed.server.url))


def main() -> None:
    """The worker process."""
    with redis.Redis.from_url(sys.argv[1]) as client:
        worker = SimpleWorker([QUEUE], connection=client)
        redis_cpu_s, worker_cpu_s, began = server_cpu_s(client), time.process_time(), time.perf_counter()
        worker.work(burst=True, logging_level="WARNING")
        figures = {
            "seconds": time.perf_counter() - began,
            "worker_cpu_s": time.process_time() - worker_cpu_s,
            "redis_cpu_s": server_cpu_s(client) - redis_cpu_s,
        }
        if Queue(QUEUE, connection=client).count or Queue(QUEUE, connection=client).failed_job_registry.count:
            raise SystemExit("RQ has left jobs behind")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
