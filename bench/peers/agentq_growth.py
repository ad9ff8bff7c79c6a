"""agentq's claim and sweep scripts on a Redis with many runs: the CPU time of each, by Redis's own count."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from agentq import Settings
from agentq._ids import new_run_id, new_token
from agentq.messages import user_message
from agentq.stores.base import NewRun
from agentq.wiring import redis_parts
from bench.measure import Figure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.stores.base import Claim, Lease
    from agentq.wiring import Parts
    from bench.measure import Bed, Case, Sample

REDIS_US = Figure("us of Redis per script", 1)
ROUND_TRIP_US = Figure("us per round trip", 0)
_AT_ONCE = 200
_HOUR_MS = 3_600_000
_BATCH = 64


@dataclass(frozen=True, slots=True)
class AgentqClaims:
    """Claims one wake-up at a time, and enqueues another run for each, so that the queue keeps its length."""

    name: str = "agentq"
    slow: bool = False
    settings: str = "one wake-up a claim; the queue has the same length before each"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        return asyncio.run(self._measure(Settings(redis_url=bed.server.url), case.size, runs))

    async def _measure(self, settings: Settings, queued: int, claims: int) -> Sample:
        parts = redis_parts(settings)
        async with aclosing(parts):
            await _enqueue(parts, queued)
            times = []
            for _ in range(claims):
                times.append(await _timed(parts, lambda: _claims(parts, 1)))
                await _enqueue(parts, 1)
        return _figures(times)


@dataclass(frozen=True, slots=True)
class AgentqSweeps:
    """Sweeps over runs that workers hold, none of which is due."""

    name: str = "agentq"
    slow: bool = False
    settings: str = "no run is due: the pass finds nothing to wake"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        return asyncio.run(self._measure(Settings(redis_url=bed.server.url), case.size, runs))

    async def _measure(self, settings: Settings, live: int, sweeps: int) -> Sample:
        parts = redis_parts(settings)
        async with aclosing(parts):
            await _enqueue(parts, live)
            while await _claims(parts, _BATCH):
                pass
            times = []
            for _ in range(sweeps):
                # A pass so soon after another one would look at nothing.
                await parts.store.pipeline.execute("DEL", parts.store.keys.sweep)
                wake = parts.executor.wakeup
                times.append(await _timed(parts, lambda: parts.store.sweep(lease_ms=_HOUR_MS, wake=wake)))  # noqa: B023
        return _figures(times)


@dataclass(frozen=True, slots=True)
class AgentqRenewals:
    """Renews the leases of a worker with so many runs in flight, in one script, as it does three times a lease."""

    name: str = "agentq"
    slow: bool = False
    settings: str = "all leases of a worker in one script"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        return asyncio.run(self._measure(Settings(redis_url=bed.server.url), case.size, runs))

    async def _measure(self, settings: Settings, held: int, renewals: int) -> Sample:
        parts = redis_parts(settings)
        async with aclosing(parts):
            await _enqueue(parts, held)
            leases: list[Lease] = []
            while len(leases) < held:
                leases += [claim.lease for claim in await _claims(parts, _BATCH)]
            times = [await _timed(parts, lambda: parts.store.renew(leases, lease_ms=_HOUR_MS)) for _ in range(renewals)]
        return {name: us / held for name, us in _figures(times).items()}


async def _enqueue(parts: Parts, runs: int) -> None:
    for start in range(0, runs, _AT_ONCE):
        news = [
            NewRun(new_run_id(), "bench", (user_message("What is new?"),), queue="bench")
            for _ in range(min(_AT_ONCE, runs - start))
        ]
        await asyncio.gather(*[parts.store.create(new, wake=parts.executor.wakeup) for new in news])


async def _claims(parts: Parts, count: int) -> tuple[Claim, ...]:
    claimed = await parts.store.claim_wakeups(
        parts.executor.source(("bench",)), owner="bench", claim_id=new_token(), lease_ms=_HOUR_MS, count=count
    )
    return claimed.claims


async def _timed(parts: Parts, script: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Microseconds that Redis counts for a script, and those until its answer is here."""
    before, began = await _scripts_us(parts), time.perf_counter_ns()
    await script()
    took_us = (time.perf_counter_ns() - began) / 1000
    return await _scripts_us(parts) - before, took_us


async def _scripts_us(parts: Parts) -> float:
    stats = await parts.store.connection.client.info("commandstats")
    return float(sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats))


def _figures(times: list[tuple[float, float]]) -> Sample:
    in_redis, round_trips = zip(*times, strict=True)
    return {REDIS_US.name: median(in_redis), ROUND_TRIP_US.name: median(round_trips)}
