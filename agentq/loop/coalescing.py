"""When events that wait for company go out: at the end of a window that many iterations of a process share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Windows that end one after the other: a share of the streams writes at a time, not all of them in one burst.
_PHASES = 4


class Coalescing:
    """Calls back at the end of a window of `window_s`, which has begun already: after half of it on average.

    A few timers for thousands of streams, and what they write meets in one round trip.
    """

    def __init__(self, window_s: float) -> None:
        self._phase_of: dict[Callable[[], None], _Phase] = {}
        self._phases = tuple(_Phase(window_s, window_s * number / _PHASES, self._phase_of) for number in range(_PHASES))
        self._asked = 0
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call` at the end of its window, once however often it is asked for."""
        event_loop = asyncio.get_running_loop()
        if self._event_loop is not event_loop:
            # An event loop that has been closed took its timers with it.
            self._event_loop = event_loop
            self._phase_of.clear()
            for phase in self._phases:
                phase.clear()
        if call not in self._phase_of:
            self._asked += 1
            phase = self._phase_of[call] = self._phases[self._asked % _PHASES]
            phase.add(call, event_loop)

    def forget(self, call: Callable[[], None]) -> None:
        """Do not call it; no effect where nobody asked."""
        phase = self._phase_of.pop(call, None)
        if phase is not None:
            phase.discard(call)


class _Phase:
    """Windows of one length that end at `offset_s` past every multiple of it, by the clock of the event loop.

    `phase_of` is what all phases know of who asked; who is called is taken out of it.
    """

    __slots__ = ("_due", "_offset_s", "_phase_of", "_timer", "_window_s")

    def __init__(self, window_s: float, offset_s: float, phase_of: dict[Callable[[], None], _Phase]) -> None:
        self._window_s = window_s
        self._offset_s = offset_s
        self._phase_of = phase_of
        # A dict, because it keeps the order and forgets at once.
        self._due: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def clear(self) -> None:
        self._due.clear()
        self._timer = None

    def add(self, call: Callable[[], None], event_loop: asyncio.AbstractEventLoop) -> None:
        self._due[call] = None
        if self._timer is None:
            now = event_loop.time()
            wait_s = (self._offset_s - now) % self._window_s if self._window_s else 0
            self._timer = event_loop.call_at(now + wait_s, self._end)

    def discard(self, call: Callable[[], None]) -> None:
        self._due.pop(call, None)

    def _end(self) -> None:
        self._timer = None
        # Who asks while these are called waits for the next window.
        for _ in range(len(self._due)):
            if not self._due:
                break
            call = next(iter(self._due))
            del self._due[call]
            self._phase_of.pop(call, None)
            try:
                call()
            except Exception:
                # A bug in one must not keep the others waiting; the event loop reports it.
                if self._due and self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(0, self._end)
                raise
