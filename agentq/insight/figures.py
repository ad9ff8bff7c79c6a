"""One page of figures over all runs, from counts that Redis keeps anyway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from agentq.errors import RunNotFound, StoreCorrupted
from agentq.insight.facts import MemoryInfo, Stats
from agentq.insight.redis import milliseconds, parsed_info, sweep_times
from agentq.limits import Meter
from agentq.runs import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._redis.pipeline import Pipeline
    from agentq.insight.redis import RedisReader
    from agentq.stores.redis import RedisStore

# So many ended runs are weighed to say what one takes.
_WEIGHED = 10


async def read_stats(store: RedisStore, reader: RedisReader) -> Stats:
    """Count. Costs the same whatever is counted, but for a few commands per worker and queue."""
    keys, pipeline = store.keys, store.pipeline
    counts, sessions, due, now, last, workers, queues, oldest, memory, weights, pauses, more = await asyncio.gather(
        asyncio.gather(*[pipeline.execute("ZCARD", keys.listing("status", status)) for status in Status]),
        pipeline.execute("ZCARD", keys.sessions()),
        pipeline.execute("ZCARD", keys.due),
        pipeline.execute("TIME"),
        pipeline.execute("GET", keys.sweep),
        reader.workers(),
        reader.queues(),
        _oldest_queued(store),
        _memory(pipeline),
        _weights(store),
        store.pauses(),
        asyncio.gather(store.webhooks.known(), store.spent([Meter("all", "", "day")])),
    )
    webhooks, (spent,) = more
    return Stats(
        now_ms=milliseconds(now),
        runs={str(status): number for status, number in zip(Status, counts, strict=True)},
        sessions=sessions,
        due=due,
        oldest_queued=oldest,
        swept_ms=sweep_times(last)[0],
        workers=workers,
        queues=queues,
        memory=memory,
        kept_bytes=round(sum(weights) / len(weights)) if weights else None,
        kept_of=len(weights),
        pauses=pauses,
        webhooks=webhooks,
        spent=spent or None,
    )


async def _oldest_queued(store: RedisStore) -> tuple[str, int] | None:
    """The queued run that was created first; run ids sort by time."""
    listing = store.keys.listing("status", Status.QUEUED)
    for run_id in await store.pipeline.execute("ZRANGE", listing, 0, 0):
        try:
            return run_id.decode(), (await store.read(run_id.decode())).created_ms
        except (RunNotFound, StoreCorrupted):
            return None
    return None


async def _memory(pipeline: Pipeline) -> MemoryInfo | None:
    try:
        info = parsed_info(await pipeline.execute("INFO", "memory"))
    except ResponseError:  # not for this user, or not on this service
        return None
    return MemoryInfo(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)), info.get("maxmemory_policy", ""))


async def _weights(store: RedisStore) -> Sequence[int]:
    """Bytes of the keys of each of the latest runs that completed; none where Redis does not tell."""
    keys, pipeline = store.keys, store.pipeline
    listing = keys.listing("status", Status.COMPLETED)
    latest = [run_id.decode() for run_id in await pipeline.execute("ZREVRANGE", listing, 0, _WEIGHED - 1)]

    async def weigh(run_id: str) -> int:
        of_run = (
            keys.run(run_id),
            keys.messages(run_id),
            keys.events(run_id),
            keys.files(run_id),
            keys.values("run", run_id),
        )
        sizes = await asyncio.gather(*[pipeline.execute("MEMORY", "USAGE", key) for key in of_run])
        return sum(size or 0 for size in sizes)

    try:
        weights = await asyncio.gather(*[weigh(run_id) for run_id in latest])
    except ResponseError:
        return ()
    return [weight for weight in weights if weight]  # one that has expired stands in the listing until a sweep
