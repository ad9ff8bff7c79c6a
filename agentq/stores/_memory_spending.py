"""What runs have used together, as the in-memory store counts it: says in Python what `_spend.lua` does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agentq.limits import KEPT_MS, WINDOW_MS, Meter, Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Spending:
    """Counts by meter and window. Threads may share it."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._guard = threading.Lock()
        # Name and number of the window → when it is forgotten, and what was used.
        self._counts: dict[tuple[str, int], tuple[int, Spent]] = {}

    def add(self, meters: Sequence[Meter], more: Spent) -> None:
        """Count on, in the window that it is now."""
        if not more:
            return
        now = self._now_ms()
        with self._guard:
            for key in [key for key, (until_ms, _) in self._counts.items() if until_ms <= now]:
                del self._counts[key]
            for meter in meters:
                key = meter.name, _window(meter, now)
                _, had = self._counts.get(key, (0, Spent()))
                self._counts[key] = (
                    now + KEPT_MS[meter.window],
                    Spent(
                        had.tokens + more.tokens,
                        had.cost_nanousd + more.cost_nanousd,
                        had.iterations + more.iterations,
                    ),
                )

    def read(self, meter: Meter) -> Spent:
        """What was used."""
        now = self._now_ms()
        number = _window(meter, now) if meter.at is None else meter.at
        until_ms, had = self._counts.get((meter.name, number), (0, Spent()))
        length = WINDOW_MS[meter.window]
        left_ms = max((number + 1) * length - now, 0)
        found = had if until_ms > now else Spent()
        return Spent(found.tokens, found.cost_nanousd, found.iterations, left_ms)


def _window(meter: Meter, now: int) -> int:
    length = WINDOW_MS[meter.window]
    return now // length if length else 0
