"""What keeps a worker from claiming: `rq suspend`, or `agentq workers quiet`. What is in flight goes on."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agentq.worker.words import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.runs import Pause
    from agentq.worker.slots import Slots

logger = logging.getLogger(__name__)
_RQ, _QUIET = "rq", "quiet"
_ENDS = {_RQ: "rq resume", _QUIET: "agentq workers resume"}


class Suspension:
    """Whether this worker may claim, as of the last look. Until the first one it holds claiming back.

    Both are said with keys that have a time to live; so they are looked at again and again, and may be a second late.
    `quiet` tells whether this very worker was told so, where there is somebody to tell it.
    """

    # To be looked at this often.
    EVERY_S = 1.0

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool]],
        slots: Slots,
        *,
        nudge: Callable[[], None],
        quiet: Callable[[], Awaitable[Pause | None]] | None = None,
    ) -> None:
        self._ask = ask
        self._quiet = quiet
        self._slots = slots
        self._nudge = nudge
        self._looked = False
        # What holds it, and since when.
        self._since: dict[str, float] = {}
        self._extra = {"worker": slots.worker}

    @property
    def is_on(self) -> bool:
        return bool(self._since)

    @property
    def is_quiet(self) -> bool:
        return _QUIET in self._since

    @property
    def may_claim(self) -> bool:
        return self._looked and not self._since

    async def look(self) -> None:
        """Ask Redis. Raises `StoreUnavailable`, and keeps what was known before."""
        is_suspended = await self._ask()
        quiet = None if self._quiet is None else await self._quiet()
        changes = [
            self._noted(_RQ, "suspended by `rq suspend`" if is_suspended else None),
            self._noted(_QUIET, None if quiet is None else _told(quiet)),
        ]
        if any(changes) or not self._looked:
            self._looked = True
            self._nudge()

    def _noted(self, name: str, told: str | None) -> bool:
        """Note what holds it now, or that it does not, and say so; whether that is new."""
        since = self._since.get(name)
        if (told is None) is (since is None):
            return False
        if told is not None:
            self._since[name] = time.monotonic()
            in_flight = counted(len(self._slots), "iteration")
            logger.warning(
                "%s: nothing new is claimed until `%s`; %s in flight", told, _ENDS[name], in_flight, extra=self._extra
            )
        elif since is not None:
            del self._since[name]
            logger.warning("resumed after %.0f s", time.monotonic() - since, extra=self._extra)
        return True


def _told(quiet: Pause) -> str:
    by = f" by {quiet.by}" if quiet.by else ""
    return f"told to be quiet{by}{f' ({quiet.reason})' if quiet.reason else ''}"
