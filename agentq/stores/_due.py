"""Whether the sweeper will have something to do soon, for processes that stay only as long as it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq.runs import SCHEMA_VERSION, Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline

# Enough to find one that counts, unless very many runs of other queues are due before it.
_LOOKS = 100
_GOING_ON = (Status.QUEUED.encode(), Status.RUNNING.encode())


async def any_due_within(pipeline: Pipeline, keys: Keys, queues: Collection[str], within_ms: int) -> bool:
    """Whether a run of one of the queues is delayed no longer than that, is held, or has lost its wake-up."""
    seconds, microseconds = await pipeline.execute("TIME")
    until = int(seconds) * 1000 + int(microseconds) // 1000 + within_ms
    due: list[bytes] = await pipeline.execute("ZRANGEBYSCORE", keys.due, "-inf", until, "LIMIT", 0, _LOOKS)
    states: list[list[Any]] = await asyncio.gather(
        *[pipeline.execute("HMGET", keys.run(run_id.decode()), "status", "queue", "version") for run_id in due]
    )
    return any(
        status in _GOING_ON and queue.decode() in queues and int(version or 0) <= SCHEMA_VERSION
        for status, queue, version in states
    )
