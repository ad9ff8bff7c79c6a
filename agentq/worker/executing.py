"""RQ's view of iterations in flight: job hashes and the registry of started jobs.

Only of iterations that take long, and from the thread that keeps RQ's record of the worker: a short one costs nothing.
With it `rq info` counts what executes, and `rq.command.send_stop_job_command` finds the worker of a job.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.utils import utcformat

from agentq._ids import run_of_job
from agentq.executors.queue import wakeup_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from agentq.worker.slots import InFlight, Slots

# Shorter ones would be gone before anybody could stop them.
_LONG_S = 2.0
# Of one worker: what more people would look at, and so few that the beat stays short.
_MOST = 100
# So many dead entries are looked at in one go.
_FORGOTTEN = 1000
# A killed worker leaves both; the hash goes first, so that RQ finds no job to call failed: the run goes on elsewhere.
_HASH_TTL_S = 75
_ENTRY_TTL_S = 90


class Executing:
    """Shows long iterations to RQ. Entries run out unless they are refreshed within a minute."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._shown: dict[str, InFlight] = {}

    def write(self, pipeline: Any, *, refresh: bool) -> dict[str, InFlight]:
        """Queue what has changed, with `refresh` all. To be `confirm`ed once it is written; to be repeated if not."""
        found = {flight.job_id: flight for flight in self._slots.longer_than(_LONG_S, limit=_MOST)}
        for job_id, flight in found.items():
            if refresh or job_id not in self._shown:
                self._show(flight, pipeline)
        for job_id in self._shown.keys() - found.keys():
            self._hide(self._shown[job_id], pipeline)
        return found

    def forget_dead(self, client: redis.Redis, queues: Sequence[str]) -> None:
        """Take entries that workers left behind which were killed out of RQ's registries. Those of others are RQ's."""
        for queue in queues:
            registry = StartedJobRegistry.key_template.format(queue)
            entries = cast("list[bytes]", client.zrangebyscore(registry, 0, time.time(), start=0, num=_FORGOTTEN))
            ours = [entry for entry in entries if run_of_job(entry.decode(errors="replace").rpartition(":")[0])]
            if ours:
                client.zrem(registry, *ours)

    def confirm(self, written: dict[str, InFlight]) -> None:
        self._shown = written

    def hide_all(self, pipeline: Any) -> None:
        for flight in self._shown.values():
            self._hide(flight, pipeline)

    def _show(self, flight: InFlight, pipeline: Any) -> None:
        key, fields = wakeup_job(flight.run_id, flight.job_id, flight.queue)
        began = datetime.fromtimestamp(time.time() - (time.monotonic() - flight.began), UTC)
        state = {
            "status": JobStatus.STARTED.value,
            "started_at": utcformat(began),
            "worker_name": self._slots.worker,
        }
        pipeline.hset(key, mapping={**fields, **state})
        pipeline.expire(key, _HASH_TTL_S)
        pipeline.zadd(_registry(flight), {_entry(flight): int(time.time()) + _ENTRY_TTL_S})

    def _hide(self, flight: InFlight, pipeline: Any) -> None:
        pipeline.delete(f"{Job.redis_job_namespace_prefix}{flight.job_id}")
        pipeline.zrem(_registry(flight), _entry(flight))


def _registry(flight: InFlight) -> str:
    return StartedJobRegistry.key_template.format(flight.queue)


def _entry(flight: InFlight) -> str:
    """RQ's `<job id>:<execution id>`; the fence tells two executions apart."""
    return f"{flight.job_id}:{flight.fence}"
