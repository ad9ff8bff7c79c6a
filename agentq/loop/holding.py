"""Carries out a claimed iteration where no worker looks after it: keeps the lease, hears of cancels, hands it back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from agentq.loop.iteration import Iteration, Outcome
    from agentq.stores.base import Lease, Store

logger = logging.getLogger(__name__)
# An event loop holds its tasks weakly.
_carried: set[asyncio.Task[Outcome]] = set()


async def carry_out(iteration: Iteration, lease: Lease, store: Store, *, lease_ms: int) -> Outcome:
    """Run the iteration to its end under a lease that is kept.

    Cancelling the caller stops whatever runs, hands the run back to the store with its journal, and then lets the
    cancellation through.
    """
    # A task of its own: who is cancelled again while things come to their end (anyio does so at each await) leaves, and
    # the lease is kept all the same until the last tool has stopped.
    carrying = asyncio.create_task(_carry(iteration, lease, store, lease_ms), name=f"agentq-iteration-{lease.run_id}")
    _carried.add(carrying)
    carrying.add_done_callback(_carried.discard)
    try:
        return await asyncio.shield(carrying)
    except asyncio.CancelledError:
        iteration.hand_back(force=True)
        await asyncio.wait({carrying})
        raise


async def _carry(iteration: Iteration, lease: Lease, store: Store, lease_ms: int) -> Outcome:
    async with _kept(iteration, lease, store, lease_ms):
        return await iteration.run()


@asynccontextmanager
async def _kept(iteration: Iteration, lease: Lease, store: Store, lease_ms: int) -> AsyncIterator[None]:
    watches = [asyncio.create_task(_renew(iteration, lease, store, lease_ms), name=f"agentq-renew-{lease.run_id}")]
    watch_cancels: Callable[[str], AsyncGenerator[str, None]] | None = getattr(store, "watch_cancels", None)
    if watch_cancels is not None:
        hears: Any = _hear_cancels(iteration, lease, watch_cancels(lease.owner))
        watches.append(asyncio.create_task(hears, name=f"agentq-cancels-{lease.run_id}"))
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _renew(iteration: Iteration, lease: Lease, store: Store, lease_ms: int) -> None:
    while True:
        await asyncio.sleep(lease_ms / 3000)
        try:
            (renewal,) = await store.renew([lease], lease_ms=lease_ms)
        except StoreUnavailable as error:
            # The store may be back before the lease has run out, and a lease that nobody took can be renewed later.
            logger.warning("run %s: its lease is not renewed: %s", lease.run_id, error, extra={"run_id": lease.run_id})
            continue
        except Exception:  # a bug, here or in a store; the next beat may be better, and silence would cost the lease
            logger.exception("run %s: its lease is not renewed", lease.run_id, extra={"run_id": lease.run_id})
            continue
        if not renewal.held:
            iteration.lose()
            return
        if renewal.cancel_requested:
            iteration.cancel()


async def _hear_cancels(iteration: Iteration, lease: Lease, cancels: AsyncGenerator[str, None]) -> None:
    try:
        async with aclosing(cancels):
            async for run_id in cancels:
                if run_id == lease.run_id:
                    iteration.cancel()
    except Exception:  # the next renewal says it, too
        logger.exception("run %s: cancels are heard late from now on", lease.run_id, extra={"run_id": lease.run_id})
