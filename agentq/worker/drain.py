"""The end of a worker that was asked to stop: what is in flight ends, or goes back to the queue for another worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from agentq.worker.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.settings import Settings
    from agentq.worker.doorbell import Nudge
    from agentq.worker.slots import Slots

logger = logging.getLogger(__name__)
# How long iterations may take to release their runs once nothing runs in them any more.
_RELEASE_S = 2.0
_LOOK_S = 0.1


async def drain(slots: Slots, settings: Settings, *, hurry: asyncio.Event, nudge: Nudge) -> None:
    """Return when no iteration is in flight.

    All get `handover_ms` to end by themselves. Then they release their runs; those in a tool that must not be
    repeated go on up to `drain_ms` more. With `hurry`, or after that, all release at once. Whoever cannot within
    two seconds (Redis is away) is abandoned.
    """
    slots.tells_every_end = True
    await _until_empty(slots, lambda: settings.handover_ms / 1000, hurry, nudge)
    if not hurry.is_set():
        slots.hand_back(force=False)
        drain_s = settings.drain_ms / 1000
        if slots.must_not_repeat and drain_s:
            logger.info(
                "waiting up to %g s for %s that must not be repeated",
                drain_s,
                counted(slots.must_not_repeat, "iteration"),
                extra={"worker": slots.worker},
            )
        await _until_empty(slots, lambda: drain_s if slots.must_not_repeat else _RELEASE_S, hurry, nudge)
    slots.hand_back(force=True)
    await _until_empty(slots, lambda: _RELEASE_S, asyncio.Event(), nudge)
    await slots.abandon()


async def _until_empty(slots: Slots, limit_s: Callable[[], float], hurry: asyncio.Event, nudge: Nudge) -> None:
    """Return when the slots are empty, or the time is up, or somebody hurries."""
    began = time.monotonic()
    while len(slots) and not hurry.is_set():
        left_s = began + limit_s() - time.monotonic()
        if left_s <= 0:
            return
        await nudge.wait(min(left_s, _LOOK_S))
