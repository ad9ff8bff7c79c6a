"""A thread that does one thing again and again, whatever the event loop is busy with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
_AFTER_BUG_S = 1.0


class Pulse:
    """Calls `beat` in a daemon thread until it is stopped. A beat returns after how many seconds the next is due."""

    def __init__(self, name: str, beat: Callable[[], float], *, last: Callable[[], None] = lambda: None) -> None:
        self._beat = beat
        self._last = last
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self, patience_s: float) -> None:
        """End the thread with a call of `last`. A thread that hangs in a socket is left behind after `patience_s`."""
        if self._loop is None:
            return
        self._stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._ended.wait()

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """From the thread: have `call` called in the event loop. A loop that is closed hears nothing any more."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call, *arguments)

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = self._guarded(self._beat)
        self._guarded(self._last)
        self.in_loop(self._ended.set)

    def _guarded(self, call: Callable[[], float | None]) -> float:
        try:
            return call() or 0.0
        except Exception:  # a thread that dies in silence would cost every lease
            logger.exception("%s failed; it goes on", self._thread.name)
            return _AFTER_BUG_S
