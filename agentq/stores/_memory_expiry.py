"""Who is to be forgotten next: each write to the in-memory store forgets what is due and looks at nothing else."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Expiring:
    """Names in the order in which their time comes. `expires_ms` is when that is, None while it is not known."""

    def __init__(self, expires_ms: Callable[[str], int | None]) -> None:
        self._expires_ms = expires_ms
        self._line: list[tuple[int, str]] = []
        # Each name stands in line once, however often its time is put off.
        self._noted: dict[str, int] = {}

    def note(self, name: str) -> None:
        """Take the name up, or note that its time comes earlier now."""
        at_ms = self._expires_ms(name)
        if at_ms is not None and (name not in self._noted or at_ms < self._noted[name]):
            self._noted[name] = at_ms
            heapq.heappush(self._line, (at_ms, name))

    def pop(self, now: int) -> list[str]:
        """Those whose time has come, once."""
        gone = []
        while self._line and self._line[0][0] <= now:
            noted_ms, name = heapq.heappop(self._line)
            if self._noted.get(name) != noted_ms:
                continue
            del self._noted[name]
            at_ms = self._expires_ms(name)
            if at_ms is not None and at_ms <= now:
                gone.append(name)
            else:
                self.note(name)
        return gone
