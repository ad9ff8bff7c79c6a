"""What an iteration hears of losses, its lease or data of the store, and telling the store of the latter."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agentq.errors import DataLost, StoreUnavailable
from agentq.loop.interrupts import Interrupt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.loop.interrupts import Interrupts
    from agentq.stores.base import Lease, Store

logger = logging.getLogger(__name__)


class Losses:
    """Hears from writes that the store refused them, and interrupts the iteration.

    It does not know the iteration: the two would keep each other alive, and with them the transcript, until Python
    looks for cycles.
    """

    def __init__(self, lease: Lease, interrupts: Interrupts) -> None:
        self._lease = lease
        self._interrupts = interrupts
        self.has_lost_data = False

    def refused(self, error: Exception) -> None:
        """A write was refused; nothing more is to be done."""
        self.note(error)
        lease = self._lease
        logger.warning("run %s: %s", lease.run_id, error, extra={"run_id": lease.run_id, "worker": lease.owner})
        self._interrupts.stop(Interrupt.LOSE)

    def note(self, error: Exception) -> None:
        """Remember whether the store has lost data."""
        self.has_lost_data |= isinstance(error, DataLost)


async def report_loss(store: Store, lease: Lease, *, unsure: bool, committed: int = 0) -> None:
    """Mark a run of which the store has lost what was written under `lease`, where the store can be told.

    `committed` is the fence of a commit that was there when the run was claimed; if it is gone, so may be its calls.
    """
    report: Callable[..., Awaitable[bool]] | None = getattr(store, "report_loss", None)
    extra = {"run_id": lease.run_id, "worker": lease.owner}
    if report is None:
        logger.error("the store has lost what was written to run %s", lease.run_id, extra=extra)
        return
    try:
        is_there = await report(lease, unsure=unsure, committed=committed)
    except StoreUnavailable as error:
        logger.error("Redis has lost a part of run %s, and cannot be told: %s", lease.run_id, error, extra=extra)  # noqa: TRY400
        return
    if not is_there:
        logger.error("Redis has lost run %s altogether", lease.run_id, extra=extra)
    elif unsure:
        what = "perhaps a call with an effect; the run is stopped"
        logger.error("Redis has lost a part of run %s, %s", lease.run_id, what, extra=extra)
    else:
        logger.error("Redis has lost a part of run %s, which is done again", lease.run_id, extra=extra)
