"""`QueueExecutor`: the next iteration of a run as an RQ job `<run_id, action: continue>`.

The job is only a wake-up; the run hash is the truth. Where store and queue share a Redis, the store's own scripts
write the job; this file knows its form. Names of RQ's keys come from RQ's attributes.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rq import Queue
from rq.job import Job, JobStatus
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import utcformat
from rq.worker import BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from agentq._ids import is_run_id
from agentq._redis.pipeline import Pipeline
from agentq.settings import DEFAULT_QUEUE, TENANT_WAKEUPS
from agentq.stores._claims import WakeupSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._redis.connection import Connection
    from agentq.stores.redis import RedisStore

# A plain importable coroutine, so that a stock `rq worker` can run it too.
JOB_FUNCTION = "agentq.worker.job.continue_run"
# A wake-up that failed is of no more use than its message, which people read within a day.
_FAILURE_TTL_S = 86_400


def _shape() -> bytes:
    """RQ's job hash and keys, with `{run_id}`, `{job_id}`, `{queue}`, `{now}` and `{per_tenant}` left open."""
    fields = {
        # Uncompressed, which RQ reads as well, so that a script can fill the run id in.
        "data": json.dumps([JOB_FUNCTION, None, ["{run_id}", "continue"], {}]),
        # RQ logs it before it tries to read the data, so this is where people look who use another serializer.
        "description": "agentq: continue run {run_id} (an rq worker needs --serializer json)",
        "created_at": "{now}",
        "enqueued_at": "{now}",
        "origin": "{queue}",
        "status": JobStatus.QUEUED.value,
        # No death penalty: an iteration may take as long as its lease is renewed.
        "timeout": "-1",
        "result_ttl": "0",
        "failure_ttl": str(_FAILURE_TTL_S),
    }
    shape = {
        "list": f"{Queue.redis_queue_namespace_prefix}{{queue}}",
        "queues": Queue.redis_queues_keys,
        "job": f"{Job.redis_job_namespace_prefix}{{job_id}}",
        "fields": [item for pair in fields.items() for item in pair],
        "per_tenant": "{per_tenant}",
    }
    return json.dumps(shape).encode()


_SHAPE = _shape()


def run_of_job(job_id: str) -> str | None:
    """The run that a wake-up `<run_id>-<number>` is of; None for the id of any other job."""
    run_id, _, number = job_id.rpartition("-")
    return run_id if is_run_id(run_id) and number.isascii() and number.isdecimal() else None


def wakeup_job(run_id: str, job_id: str, queue: str) -> tuple[str, dict[str, str]]:
    """The key and the fields of the RQ job of a wake-up."""
    shape = json.loads(QueueWakeup().template)
    values = {"{run_id}": run_id, "{job_id}": job_id, "{queue}": queue}

    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    filled = [fill(field) for field in shape["fields"]]
    return fill(shape["job"]), dict(zip(filled[::2], filled[1::2], strict=True))


class QueueWakeup:
    """The wake-up as the scripts take it: everything but the ids, which they fill in.

    `per_tenant` is how many of one tenant stand in a queue at most.
    """

    def __init__(self, per_tenant: int = TENANT_WAKEUPS) -> None:
        self._per_tenant = str(per_tenant).encode()

    @property
    def template(self) -> bytes:
        shape = _SHAPE.replace(b"{now}", utcformat(datetime.now(UTC)).encode())
        return shape.replace(b'"{per_tenant}"', self._per_tenant)


class QueueExecutor:
    """Wakes runs through RQ. `wakeup` is for stores on the same Redis; without one the job is pushed from here.

    At most `tenant_wakeups` of one tenant stand in a queue, where there is a `wakeup`.
    """

    def __init__(
        self, store: RedisStore, *, queue_connection: Connection | None = None, tenant_wakeups: int = TENANT_WAKEUPS
    ) -> None:
        self.store = store
        self._wakeup = QueueWakeup(tenant_wakeups)
        self.connection = queue_connection or store.connection
        self._shares_redis = self.connection is store.connection
        self._pipeline = store.pipeline if self._shares_redis else Pipeline(self.connection)

    @property
    def wakeup(self) -> QueueWakeup | None:
        return self._wakeup if self._shares_redis else None

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        """Push a wake-up. With a delay nothing is pushed: the store has noted the time, and a sweeper wakes the run."""
        if delay > 0:
            return
        run = await self.store.read(run_id)
        # RQ must never see a job id twice.
        job_id = f"{run_id}-{await self.store.next_wake(run_id)}"
        job, fields = wakeup_job(run_id, job_id, run.queue)
        key = self.source((run.queue,)).queue_keys[0]
        await self._pipeline.execute("HSET", job, *[item for pair in fields.items() for item in pair])
        await self._pipeline.execute("RPUSH", key, job_id)
        await self._pipeline.execute("SADD", Queue.redis_queues_keys, key)

    async def workers(self, queue: str) -> tuple[str, ...]:
        """The names of the workers that serve the queue now, as RQ has them registered."""
        members: set[bytes] = await self._pipeline.execute("SMEMBERS", WORKERS_BY_QUEUE_KEY % queue)
        keys = sorted(key.decode() for key in members)
        # A killed worker stays in the set; its own key runs out.
        alive = await asyncio.gather(*[self._pipeline.execute("EXISTS", key) for key in keys])
        prefix = BaseWorker.redis_worker_namespace_prefix
        return tuple(key.removeprefix(prefix) for key, exists in zip(keys, alive, strict=True) if exists)

    async def worker_record(self, name: str) -> tuple[tuple[str, ...], bool]:
        """The queues of a worker that RQ has registered, and whether it was asked to stop."""
        key = f"{BaseWorker.redis_worker_namespace_prefix}{name}"
        queues, stops = await self._pipeline.execute("HMGET", key, "queues", "shutdown_requested_date")
        return tuple(queues.decode().split(",")) if queues else (), stops is not None

    async def is_suspended(self) -> bool:
        """Whether somebody said `rq suspend`."""
        return bool(await self._pipeline.execute("EXISTS", WORKERS_SUSPENDED))

    async def has_jobs(self, queues: Sequence[str]) -> bool:
        """Whether anything waits in one of the queues."""
        keys = self.source(tuple(queues)).queue_keys
        return any(await asyncio.gather(*[self._pipeline.execute("LLEN", key) for key in keys]))

    def source(self, queues: tuple[str, ...] = (DEFAULT_QUEUE,)) -> WakeupSource:
        """Where a worker of these queues finds its wake-ups."""
        return WakeupSource(
            tuple(f"{Queue.redis_queue_namespace_prefix}{queue}" for queue in queues),
            Job.redis_job_namespace_prefix,
            queues,
        )
