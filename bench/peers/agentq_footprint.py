"""What a run of agentq writes to Redis, and what it keeps there when it has finished."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import redis

from agentq import Settings
from bench.measure import Figure
from bench.peers.agentq_worker import MESSAGE_BYTES, MESSAGES, WARM_UP_RUNS, advance, seed

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

WRITTEN = Figure("KB written per run", 1)
KEPT = Figure("KB kept per run, its own keys", 1)
USED = Figure("KB of Redis memory per run, all in all", 1)
KEYS = Figure("keys kept per run", 2)
FOREVER = Figure("of them without a time to live", 0)
_RUN_KEY = re.compile(rb"agentq:\{([0-9A-Z]{26})\}")


class AgentqFootprint:
    name = "agentq"
    slow = False
    settings = f"runs of three iterations on a transcript of {MESSAGES} x {MESSAGE_BYTES / 1000:g} KB, all completed"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        url = bed.server.url
        with redis.Redis.from_url(url) as client:
            written, used = client.info("stats")["total_net_input_bytes"], client.info("memory")["used_memory"]
            asyncio.run(seed(Settings(redis_url=url), runs))
            advance(url, runs)
            written = client.info("stats")["total_net_input_bytes"] - written
            used = client.info("memory")["used_memory"] - used
            keys = [key for key in client.scan_iter(match="agentq:{*", count=1000) if _RUN_KEY.match(key)]
            kept = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
            forever = sum(client.pttl(key) == -1 for key in keys)
        of = runs + WARM_UP_RUNS
        return {
            WRITTEN.name: written / of / 1024,
            KEPT.name: kept / of / 1024,
            USED.name: used / of / 1024,
            KEYS.name: len(keys) / of,
            FOREVER.name: forever,
        }
