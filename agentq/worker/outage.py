"""One voice for "Redis is away": many loops notice it, one line says so, one line says that it is back."""

from __future__ import annotations

import logging
import random
import threading
import time

logger = logging.getLogger(__name__)
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0
# A connection that was idle may have been closed by the server; that is mended by the next try and is no outage.
_SILENT_FAILURES = 1


class Outage:
    """Counts, for each `who` that talks to Redis, the failures in a row. Safe from any thread."""

    def __init__(self, where: str, *, worker: str = "") -> None:
        self._where = where
        self._extra = {"worker": worker}
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether Redis was away when somebody last tried."""
        return self._since is not None

    def failed(self, who: str, error: BaseException) -> float:
        """Note a failed try, and return for how many seconds `who` waits before the next one."""
        with self._lock:
            failures = self._failures[who] = self._failures.get(who, 0) + 1
            if failures > _SILENT_FAILURES and self._since is None:
                self._since = time.monotonic()
                reason = str(error.__cause__ or error).rstrip(".")
                logger.warning("Redis at %s is away; waiting (%s)", self._where, reason, extra=self._extra)
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 10))
        # Spread, so that a Redis which comes back is not asked by everybody at once.
        return wait_s * random.uniform(0.6, 1.0)  # noqa: S311

    def worked(self, who: str) -> None:
        """Note that Redis answered `who`."""
        if not self._failures:
            return
        with self._lock:
            self._failures.pop(who, None)
            # Back for one is not back for all: a failover may answer some connections and not others.
            if self._since is not None and not self._failures:
                away_s = time.monotonic() - self._since
                self._since = None
                logger.warning("Redis at %s is back after %.1f s", self._where, away_s, extra=self._extra)
