"""RQ jobs on our queues that are not wake-ups: said clearly, kept as failed, never imported, unpickled or run."""

from __future__ import annotations

import json
import logging
import zlib
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from agentq._redis.connection import Connection, redis_errors
from agentq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio

logger = logging.getLogger(__name__)
_FAILURE_TTL_S = 86_400
# More is not read to find the name of a function.
_DATA_LIMIT = 1_000_000
_NAME_LIMIT = 100


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
        if not fields:
            logger.error(
                "%.100r on a queue is neither a wake-up of agentq nor an RQ job; it is dropped", job_id, extra=extra
            )
            return
        # RQ wants a connection, but with a pipeline given it sends nothing by itself.
        job = Job(job_id, connection=cast("Any", client), serializer=JSONSerializer)
        job.restore(fields)
        message = (
            f"job {job_id} on queue {job.origin} {_what(fields)}, which is not a wake-up of agentq; nothing of it was "
            "run. Give such jobs a queue of their own and run them with `rq worker`."
        )
        logger.error("%s", message, extra=extra)
        async with client.pipeline(transaction=True) as pipeline:
            _write_failure(job, message, cast("Any", pipeline), worker)
            await pipeline.execute()


async def _fields(client: redis.asyncio.Redis, key: str) -> Mapping[bytes, bytes]:
    try:
        return cast("Mapping[bytes, bytes]", await cast("Any", client.hgetall(key)))
    except ResponseError:  # another type of key
        return {}


def _write_failure(job: Job, message: str, pipeline: Any, worker: str) -> None:
    registry = FailedJobRegistry(job.origin, connection=job.connection, serializer=JSONSerializer)
    job.set_status(JobStatus.FAILED, pipeline=pipeline)
    registry.add(job, ttl=_FAILURE_TTL_S, exc_string=message, pipeline=pipeline)
    Result.create_failure(job, _FAILURE_TTL_S, exc_string=message, worker_name=worker, pipeline=pipeline)


def _what(fields: Mapping[bytes, bytes]) -> str:
    """What a job would do, as far as that can be read without running any of it."""
    function = _function(_data(fields.get(b"data", b"")))
    if function is not None:
        return f"calls {function}"
    # RQ describes a job by its call; the arguments may be private.
    description = fields.get(b"description", b"").decode(errors="replace").partition("(")[0]
    described = f" described as {description[:_NAME_LIMIT]!r}" if description else ""
    return f"is a pickled job{described}"


def _data(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, _DATA_LIMIT)
    except zlib.error:
        return raw[:_DATA_LIMIT]


def _function(data: bytes) -> str | None:
    """The function that JSON data names; None when it is no JSON, which means pickle."""
    try:
        call = json.loads(data)
    except ValueError:
        return None
    name = call[0] if isinstance(call, list) and call else None
    return repr(name[:_NAME_LIMIT]) if isinstance(name, str) else "nothing that has a name"
