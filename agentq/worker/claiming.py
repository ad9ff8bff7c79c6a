"""The claim loop: takes wake-ups off the queues whenever there is a free slot, and sleeps otherwise."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from agentq import _ids
from agentq.errors import StoreUnavailable
from agentq.stores._claims import ClaimedWakeups

if TYPE_CHECKING:
    import asyncio

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

# Claims up to a number of wake-ups; the same claim id again gives the same claims.
Take = Callable[[str, int], Awaitable[ClaimedWakeups]]


class ClaimLoop:
    """Fills the slots until `stopping` is set, or until `is_over` says so when queues and slots are empty.

    Claims nothing while RQ is suspended; a burst ends then, as RQ's does.
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
            if may_wait and self._slots.free > 0:
                may_wait = await self._claim()
                looked_at = time.monotonic()
                continue
            if not may_wait:
                if await self._burst_is_over():
                    return
                self._doorbell.arm()
            await self._nudge.wait(pause_s)
            may_wait = may_wait or self._doorbell.has_rung() or time.monotonic() - looked_at > _LOOK_ANYWAY_S

    async def _claim(self) -> bool:
        """Claim once; whether more wake-ups may wait. After a lost reply the same claim is asked for again."""
        count = min(self._slots.free, _BATCH)
        try:
            claimed = await self._take(self._claim_id, count)
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
