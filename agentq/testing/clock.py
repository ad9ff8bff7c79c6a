"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class FakeClock:
    """A `Clock` for tests. `sleep` returns once `advance` has moved the time past its end."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._start_ms = now_ms
        # Whole microseconds, so that ten steps of 0.1 s make exactly 1 s.
        self._passed_us = 0
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._start_ms + self._passed_us // 1000

    def monotonic(self) -> float:
        return self._passed_us / 1_000_000

    @property
    def sleepers(self) -> int:
        """How many tasks sleep."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move the time on and wake those whose sleep is over; they run when the caller next awaits."""
        self._passed_us += round(seconds * 1_000_000)
        due = [future for end_us, future in self._sleepers if end_us <= self._passed_us]
        self._sleepers = [(end_us, future) for end_us, future in self._sleepers if end_us > self._passed_us]
        for future in due:
            if not future.done():
                future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper = (self._passed_us + round(seconds * 1_000_000), future)
        self._sleepers.append(sleeper)
        try:
            await future
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
