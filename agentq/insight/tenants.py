"""Reads which runs of tenants stand in queues, and which wait in line for that."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from agentq.insight.facts import TenantFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq.runs import RunState

# So many tenants are counted; with more at once the figures are too low.
_COUNTED = 1000


async def read_tenant(pipeline: Pipeline, keys: Keys, run: RunState) -> TenantFacts:
    """What stands before a run that waits for others of its tenant."""
    key = keys.tenant(run.queue, run.tenant)
    # In this order: a run that is let in between the two is not taken for one that its line has lost.
    standing, ahead, waits = await asyncio.gather(
        pipeline.execute("SCARD", key),
        pipeline.execute("ZRANK", f"{key}:line", run.run_id),
        pipeline.execute("HEXISTS", keys.run(run.run_id), "shelved"),
    )
    return TenantFacts(standing, ahead or 0, is_lost=ahead is None and bool(waits))


async def read_lines(pipeline: Pipeline, keys: Keys) -> Mapping[str, int]:
    """How many runs of all tenants wait in line, by queue."""
    members: list[bytes] = await pipeline.execute("ZRANGE", keys.tenants, 0, _COUNTED - 1)
    named = [member.decode().partition(":") for member in members]
    counts = await asyncio.gather(
        *[pipeline.execute("ZCARD", f"{keys.tenant(queue, tenant)}:line") for queue, _, tenant in named]
    )
    lines: Counter[str] = Counter()
    for (queue, _, _), count in zip(named, counts, strict=True):
        lines[queue] += count
    return lines
