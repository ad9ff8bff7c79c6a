"""`rq suspend` and `rq resume`: while RQ is suspended a worker claims nothing new, and what is in flight goes on."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agentq.worker.words import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.worker.slots import Slots

logger = logging.getLogger(__name__)


class Suspension:
    """Whether the workers of a Redis are suspended, as of the last look. Until the first one it holds claiming back.

    RQ says it with a key, which may have a time to live; so it is looked at again and again, and may be a second late.
    """

    # To be looked at this often.
    EVERY_S = 1.0

    def __init__(self, ask: Callable[[], Awaitable[bool]], slots: Slots, *, nudge: Callable[[], None]) -> None:
        self._ask = ask
        self._slots = slots
        self._nudge = nudge
        self._looked = False
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._since is not None

    @property
    def may_claim(self) -> bool:
        return self._looked and self._since is None

    async def look(self) -> None:
        """Ask Redis. Raises `StoreUnavailable`, and keeps what was known before."""
        is_on = await self._ask()
        extra = {"worker": self._slots.worker}
        if is_on and self._since is None:
            self._since = time.monotonic()
            logger.warning(
                "suspended by `rq suspend`: nothing new is claimed until `rq resume`; %s in flight",
                counted(len(self._slots), "iteration"),
                extra=extra,
            )
        elif not is_on and self._since is not None:
            away_s = time.monotonic() - self._since
            self._since = None
            logger.warning("resumed after %.0f s", away_s, extra=extra)
        elif self._looked:
            return
        self._looked = True
        self._nudge()
