"""Having the executor wake a run that the store could not wake in the same write."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentq.loop.loop import Loop

logger = logging.getLogger(__name__)


async def wake_or_leave(loop: Loop, run_id: str, delay_ms: int = 0) -> None:
    """Have the executor wake a run. What was stored stands even if that fails: the sweeper finds the run."""
    try:
        # A signal that came in between took the delay away.
        if delay_ms > 0 and not (await loop.store.read(run_id)).not_before_ms:
            delay_ms = 0
        await loop.executor.schedule_next_iteration(run_id, delay=delay_ms / 1000)
    except Exception:
        logger.exception("run %s was not woken; a sweep will do it", run_id, extra={"run_id": run_id})
