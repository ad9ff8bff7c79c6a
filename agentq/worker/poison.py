"""RQ jobs on our queues that are not wake-ups: said clearly, kept as failed, never imported, unpickled or run."""

from __future__ import annotations

import json
import logging
import time
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from agentq._redis.connection import Connection, redis_errors
from agentq.errors import StoreUnavailable
from agentq.executors.queue import JOB_FUNCTION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio

logger = logging.getLogger(__name__)
_FAILURE_TTL_S = 86_400
# More is not read of one field, neither to find the name of a function nor to mark the job as failed.
_FIELD_LIMIT = 1_000_000
# RQ writes about twenty.
_FIELDS_LIMIT = 100
_NAME_LIMIT = 100
_ADVICE = "nothing of it was run. Give such jobs a queue of their own and run them with `rq worker`."


async def reject_foreign(connection: Connection, job_ids: Sequence[str], *, worker: str) -> None:
    """Move jobs that were taken off a queue to RQ's failed jobs, with a message that says why.

    Raises `StoreUnavailable`; doing it again is harmless.
    """
    for job_id in job_ids:
        try:
            await _reject(connection, job_id, worker)
        except StoreUnavailable:
            raise
        except Exception:  # whatever is wrong with this job, the next one is another's
            logger.exception("job %.100r is not a wake-up of agentq and cannot be read; it is dropped", job_id)


async def _reject(connection: Connection, job_id: str, worker: str) -> None:
    extra = {"worker": worker, "job_id": job_id}
    client = connection.client
    with redis_errors(connection.where):
        fields = await _fields(client, f"{Job.redis_job_namespace_prefix}{job_id}")
        if fields is None:
            logger.error(
                "%.100r on a queue is neither a wake-up of agentq nor an RQ job; it is dropped", job_id, extra=extra
            )
            return
        # RQ wants a connection, but with a pipeline given it sends nothing by itself.
        job = Job(job_id, connection=cast("Any", client), serializer=JSONSerializer)
        # Raises what any other reader of the job would raise, too. The data may unpack to anything.
        job.restore({**fields, b"data": b""})
        message = f"job {job_id} on queue {job.origin} {_what(fields)}"
        logger.error("%s", message, extra=extra)
        async with client.pipeline(transaction=True) as pipeline:
            _write_failure(job, message, cast("Any", pipeline), worker)
            await pipeline.execute()


async def _fields(client: redis.asyncio.Redis, key: str) -> Mapping[bytes, bytes] | None:
    """The fields of a job, without those that are too large; None if there is no such hash, or it is no job."""
    commands = cast("Any", client)
    try:
        count = await commands.hlen(key)
    except ResponseError:  # another type of key
        return None
    if not 0 < count <= _FIELDS_LIMIT:
        return None
    names = await commands.hkeys(key)
    if b"data" not in names:
        return None
    async with commands.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hstrlen(key, name)
        sizes = await pipeline.execute()
    small = [name for name, size in zip(names, sizes, strict=True) if size <= _FIELD_LIMIT]
    values = await commands.hmget(key, small) if small else []
    return {name: value for name, value in zip(small, values, strict=True) if value is not None}


def _write_failure(job: Job, message: str, pipeline: Any, worker: str) -> None:
    """What RQ writes for a job that failed, but for the job itself, which stays as it was."""
    registry = FailedJobRegistry(job.origin, connection=job.connection, serializer=JSONSerializer)
    job.set_status(JobStatus.FAILED, pipeline=pipeline)
    pipeline.hset(job.key, "ended_at", utcformat(datetime.now(UTC)))
    job.cleanup(ttl=_FAILURE_TTL_S, pipeline=pipeline)
    pipeline.zadd(registry.key, {job.id: int(time.time()) + _FAILURE_TTL_S})
    Result.create_failure(job, _FAILURE_TTL_S, exc_string=message, worker_name=worker, pipeline=pipeline)


def _what(fields: Mapping[bytes, bytes]) -> str:
    """What a job would do, as far as that can be read without running any of it, and what to do about it."""
    data = _data(fields[b"data"]) if b"data" in fields else None
    if data is None or len(data) >= _FIELD_LIMIT:
        return f"is larger than {_FIELD_LIMIT} bytes, and is not a wake-up of agentq; {_ADVICE}"
    name = _function(data)
    if name == JOB_FUNCTION:
        return (
            "calls the job function of agentq, but its id is not that of a wake-up; nothing of it was run. Only agentq "
            "writes wake-ups: start runs with `agentq enqueue` or Client.enqueue()."
        )
    if name is not None:
        shown = repr(name[:_NAME_LIMIT]) if name else "nothing that has a name"
        return f"calls {shown}, which is not a wake-up of agentq; {_ADVICE}"
    # RQ describes a job by its call; the arguments may be private.
    description = fields.get(b"description", b"").decode(errors="replace").partition("(")[0]
    described = f" described as {description[:_NAME_LIMIT]!r}" if description else ""
    return f"is a pickled job{described}, which is not a wake-up of agentq; {_ADVICE}"


def _data(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, _FIELD_LIMIT)
    except zlib.error:
        return raw


def _function(data: bytes) -> str | None:
    """The function that JSON data names, or ""; None when it is no JSON, which means pickle."""
    try:
        call = json.loads(data)
    except ValueError:
        return None
    except RecursionError:
        return ""
    name = call[0] if isinstance(call, list) and call else None
    return name if isinstance(name, str) else ""
