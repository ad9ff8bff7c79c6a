"""The claim loop: takes wake-ups off the queues whenever there is a free slot, and sleeps otherwise."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentq import _ids
from agentq.errors import StoreUnavailable
from agentq.runs import is_suspect
from agentq.stores._claims import ClaimedWakeups

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from agentq.stores._claims import WakeupSource
    from agentq.stores.redis import RedisStore
    from agentq.worker.doorbell import Doorbell, Nudge
    from agentq.worker.outage import Outage
    from agentq.worker.slots import Slots
    from agentq.worker.suspension import Suspension

logger = logging.getLogger(__name__)
# Wake-ups in one script: many, for speed, but Redis serves nobody else meanwhile.
_BATCH = 64
# Should a doorbell ever be deaf, the queues are looked at anyway.
_LOOK_ANYWAY_S = 5.0
_BURST_LOOK_S = 0.25
_AFTER_BUG_S = 1.0
# How soon the worker sees that a queue is paused no more.
_PAUSED_LOOK_S = 0.5
# How soon the worker sees that it is idle, when it waits for that.
_IDLE_LOOK_S = 0.1


class Take(Protocol):
    """Claims wake-ups; the same claim id again gives the same claims."""

    async def wakeups(self, claim_id: str, count: int, *, is_idle: bool) -> ClaimedWakeups:
        """Up to `count` wake-ups of the queues."""
        ...

    async def named(self, claim_id: str, run_id: str) -> ClaimedWakeups:
        """One run, whatever the queues hold."""
        ...


@dataclass(frozen=True, slots=True)
class StoreTake:
    """Takes wake-ups and runs of one store for one worker."""

    store: RedisStore
    source: WakeupSource
    owner: str
    lease_ms: int
    agents: tuple[str, ...]

    async def wakeups(self, claim_id: str, count: int, *, is_idle: bool) -> ClaimedWakeups:
        return await self.store.claim_wakeups(
            self.source,
            owner=self.owner,
            claim_id=claim_id,
            lease_ms=self.lease_ms,
            count=count,
            is_idle=is_idle,
            agents=self.agents,
        )

    async def named(self, claim_id: str, run_id: str) -> ClaimedWakeups:
        claims = await self.store.claim(
            [run_id], owner=self.owner, claim_id=claim_id, lease_ms=self.lease_ms, agents=self.agents
        )
        return ClaimedWakeups(claims, 0, ())


class ClaimLoop:
    """Fills the slots until `stopping` is set, or until `is_over` says so when queues and slots are empty.

    Claims nothing while RQ is suspended; a burst ends then, as RQ's does. A run that lost its workers again and again
    is worked on alone: it waits until the slots are empty, and nothing else is claimed beside it.
    """

    def __init__(
        self,
        take: Take,
        reject: Callable[[Sequence[str]], Awaitable[None]],
        *,
        slots: Slots,
        doorbell: Doorbell,
        nudge: Nudge,
        outage: Outage,
        suspension: Suspension,
        stopping: asyncio.Event,
        is_over: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._take = take
        self._reject = reject
        self._slots = slots
        self._doorbell = doorbell
        self._nudge = nudge
        self._outage = outage
        self._suspension = suspension
        self._stopping = stopping
        self._is_over = is_over
        self._claim_id = _ids.new_token()
        self._suspect: str | None = None
        self._is_alone = False
        self._paused: tuple[str, ...] = ()
        self._extra = {"worker": slots.worker}

    async def run(self) -> None:
        while True:
            try:
                return await self._fill()
            except Exception:  # a worker that renews and sweeps but claims nothing would look alive
                logger.exception("the claim loop failed; it goes on")
                await self._nudge.wait(_AFTER_BUG_S)

    async def _fill(self) -> None:
        pause_s = _LOOK_ANYWAY_S if self._is_over is None else _BURST_LOOK_S
        may_wait = True  # wake-ups that were not seen yet
        looked_at = time.monotonic()
        while not self._stopping.is_set():
            if not self._suspension.may_claim:
                if self._must_leave_burst():
                    return
                await self._nudge.wait(pause_s)
                may_wait = True
                continue
            if self._suspect is not None or self._is_alone:
                if len(self._slots):
                    await self._nudge.wait(_IDLE_LOOK_S)
                    continue
                self._is_alone = False
                may_wait = True
            if may_wait and self._slots.free > 0:
                may_wait = await self._claim()
                looked_at = time.monotonic()
                continue
            if not may_wait:
                if await self._burst_is_over():
                    return
                self._doorbell.arm(without=self._paused)
            # That something was resumed rings no bell.
            look_s = _PAUSED_LOOK_S if self._paused else _LOOK_ANYWAY_S
            await self._nudge.wait(min(pause_s, look_s))
            may_wait = may_wait or self._doorbell.has_rung() or time.monotonic() - looked_at > look_s

    async def _claim(self) -> bool:
        """Claim once; whether more wake-ups may wait. After a lost reply the same claim is asked for again."""
        count = min(self._slots.free, _BATCH)
        suspect = self._suspect
        try:
            if suspect is None:
                claimed = await self._take.wakeups(self._claim_id, count, is_idle=not len(self._slots))
            else:
                claimed = await self._take.named(self._claim_id, suspect)
        except StoreUnavailable as error:
            await self._nudge.wait(self._outage.failed("claim", error))
            return True
        except Exception:  # data that cannot be read must not end the work on all other runs
            logger.exception("wake-ups could not be claimed; the worker goes on")
            self._claim_id = _ids.new_token()
            await self._nudge.wait(_AFTER_BUG_S)
            return True
        self._outage.worked("claim")
        self._claim_id = _ids.new_token()
        for claim in claimed.claims:
            self._slots.start(claim)
        self._suspect = claimed.suspect
        self._paused = claimed.paused
        self._is_alone = suspect is not None or any(is_suspect(claim.run) for claim in claimed.claims)
        if self._suspect is not None:
            logger.warning(
                "run %s lost its worker again and again; this one makes room to work on it alone",
                self._suspect,
                extra={"run_id": self._suspect, **self._extra},
            )
            return True
        if suspect is not None:
            return True
        if claimed.foreign:
            await self._reject_all(claimed.foreign)
        return claimed.popped >= count

    async def _reject_all(self, job_ids: Sequence[str]) -> None:
        while True:
            try:
                return await self._reject(job_ids)
            except StoreUnavailable as error:
                if self._stopping.is_set():
                    logger.warning("Redis is away; jobs that are not ours are neither run nor marked: %s", job_ids)
                    return None
                await self._nudge.wait(self._outage.failed("foreign jobs", error))

    def _must_leave_burst(self) -> bool:
        if self._is_over is None or len(self._slots) or not self._suspension.is_on:
            return False
        logger.warning("suspended during a burst: ending; there may be wake-ups on the queues", extra=self._extra)
        return True

    async def _burst_is_over(self) -> bool:
        if self._is_over is None or len(self._slots):
            return False
        try:
            over = await self._is_over()
        except StoreUnavailable as error:
            await self._nudge.wait(self._outage.failed("burst", error))
            return False
        self._outage.worked("burst")
        return over
