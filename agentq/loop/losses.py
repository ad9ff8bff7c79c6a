"""Telling the store that it has lost something."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agentq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.stores.base import Lease, Store

logger = logging.getLogger(__name__)


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
