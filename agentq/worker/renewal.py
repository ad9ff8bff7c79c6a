"""Lease renewal: all leases of a process in one batch, from a thread with a connection of its own.

A tool that blocks the event loop must not cost a lease; an event loop that is dead must not keep one.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from agentq.errors import StoreUnavailable
from agentq.stores.base import Lease, Renewal
from agentq.worker.pulse import Pulse

if TYPE_CHECKING:
    from agentq.worker.outage import Outage

logger = logging.getLogger(__name__)
# One script call renews this many, so that thousands of leases do not hold Redis up for long.
_BATCH = 500
# The thread may hang in a socket; the process ends without it.
_STOP_PATIENCE_S = 1.0

Renew = Callable[[Sequence[Lease]], tuple[Renewal, ...]]


class Holder(Protocol):
    """Whoever works under a lease, and hears what becomes of it. Called in the event loop."""

    def lose(self) -> None: ...
    def cancel(self) -> None: ...


class LeaseRenewal:
    """Keeps leases alive from `add` to `drop`. `renew` is blocking and is called in a thread."""

    def __init__(
        self,
        renew: Renew,
        *,
        lease_ms: int,
        stall_limit_ms: int,
        outage: Outage,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._renew = renew
        self._interval_s = lease_ms / 3000
        self._stall_limit_s = stall_limit_ms / 1000
        self._outage = outage
        self._lock = threading.Lock()
        self._held: dict[Lease, Holder] = {}
        self._pulse = Pulse("agentq-renewal", self._beat, last=close)
        self._ticked_at = time.monotonic()
        self._tick_pending = False
        self._stalled = False

    def start(self) -> None:
        self._tick()
        self._pulse.start()

    async def stop(self) -> None:
        await self._pulse.stop(_STOP_PATIENCE_S)

    def add(self, lease: Lease, holder: Holder) -> None:
        with self._lock:
            self._held[lease] = holder

    def drop(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease, None)

    # In the thread

    def _beat(self) -> float:
        if not self._loop_ticks():
            return self._interval_s
        with self._lock:
            leases = tuple(self._held)
        for batch in _batches(leases):
            try:
                answers = self._renew(batch)
            except (StoreUnavailable, RedisError, OSError) as error:
                return min(self._outage.failed("renewal", error), self._interval_s)
            self._outage.worked("renewal")
            for lease, answer in zip(batch, answers, strict=True):
                if not answer.held:
                    self._pulse.in_loop(self._lost, lease)
                elif answer.cancel_requested:
                    self._pulse.in_loop(self._cancelled, lease)
        return self._interval_s

    def _loop_ticks(self) -> bool:
        stalled_s = time.monotonic() - self._ticked_at
        if stalled_s > self._stall_limit_s:
            if not self._stalled:
                self._stalled = True
                logger.error(
                    "the event loop has stood still for %.0f s (a blocking call in an async tool?); "
                    "its leases are not renewed any more, so that other workers take the runs over",
                    stalled_s,
                )
            return False
        if self._stalled:
            self._stalled = False
            logger.warning("the event loop moves again; leases are renewed")
        if not self._tick_pending:
            self._tick_pending = True
            self._pulse.in_loop(self._tick)
        return True

    # In the event loop

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()
        self._tick_pending = False

    def _lost(self, lease: Lease) -> None:
        # A lease whose iteration has just committed is not held either; losing it then has no effect.
        holder = self._held.get(lease)
        if holder is not None:
            self.drop(lease)
            holder.lose()

    def _cancelled(self, lease: Lease) -> None:
        holder = self._held.get(lease)
        if holder is not None:
            holder.cancel()


def _batches(leases: tuple[Lease, ...]) -> itertools.chain[tuple[Lease, ...]]:
    return itertools.chain(leases[start : start + _BATCH] for start in range(0, len(leases), _BATCH))
