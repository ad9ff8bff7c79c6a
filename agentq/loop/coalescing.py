"""When events that wait for company go out: at the end of a window that all iterations of a process share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Coalescing:
    """Calls back at the end of the current window, which begins with the first who asks.

    One timer for thousands of streams, and what they write meets in one round trip.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        # A dict, because it keeps the order and forgets at once.
        self._due: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call` at the end of the window, once however often it is asked for."""
        event_loop = asyncio.get_running_loop()
        if self._event_loop is not event_loop:
            # An event loop that has been closed took its timer with it.
            self._event_loop, self._timer = event_loop, None
            self._due.clear()
        self._due[call] = None
        if self._timer is None:
            self._timer = event_loop.call_later(self._window_s, self._end_window)

    def forget(self, call: Callable[[], None]) -> None:
        """Do not call it; no effect where nobody asked."""
        self._due.pop(call, None)

    def _end_window(self) -> None:
        self._timer = None
        # Who asks while these are called waits for the next window.
        for _ in range(len(self._due)):
            if not self._due:
                break
            call = next(iter(self._due))
            del self._due[call]
            try:
                call()
            except Exception:
                # A bug in one must not keep the others waiting; the event loop reports it.
                if self._due and self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(0, self._end_window)
                raise
