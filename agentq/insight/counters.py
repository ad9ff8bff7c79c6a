"""What metrics are made of: counts that scripts keep with what they count, so that a killed process changes none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq import _json
from agentq.runs import FOR_PEOPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.stores.redis import RedisStore

# Of so many runs that wait for people it is looked at what they want to know.
LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Counters:
    """What has been counted since there are runs, by name and agent; and what waits for people now, by kind.

    Of more than `LOOKED_AT` runs that wait for them, the newest are looked at. Agents beyond the first thousands that
    are named count as one without a name.
    """

    counts: Mapping[str, Mapping[str, int]]
    waiting: Mapping[str, int]


async def read_counters(store: RedisStore) -> Counters:
    """Read them. Costs the same whatever is counted, but for the runs that wait for people."""
    keys, pipeline = store.keys, store.pipeline
    raw, waiting = await asyncio.gather(
        pipeline.execute("HGETALL", keys.counts),
        pipeline.execute("ZREVRANGE", keys.listing("asks", "people"), 0, LOOKED_AT - 1),
    )
    counts: dict[str, dict[str, int]] = {}
    for field, number in raw.items():
        name, _, agent = field.decode().partition(":")
        counts.setdefault(name, {})[agent] = int(number)
    questions = await asyncio.gather(
        *[pipeline.execute("HGET", keys.run(run_id.decode()), "question") for run_id in waiting]
    )
    kinds = dict.fromkeys(FOR_PEOPLE, 0)
    for stored in questions:
        asked = _json.loads(stored) if stored else []
        for each in asked if isinstance(asked, list) else [asked]:
            if (kind := each.get("kind", FOR_PEOPLE[0])) in kinds:
                kinds[kind] += 1
    return Counters(counts, kinds)
