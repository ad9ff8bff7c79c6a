"""Waiting for a replica, where the settings ask for it, and saying so when there is none that keeps up."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)
# Said again so often, while it lasts.
_REMIND_S = 60.0


class Replication:
    """Judges what WAIT answers: how many replicas have the writes of a connection, within `timeout_ms`."""

    def __init__(self, timeout_ms: int, *, where: str) -> None:
        self.timeout_ms = timeout_ms
        self.missed = 0
        self._where = where
        self._told_at: float | None = None

    def saw(self, replicas: int) -> None:
        """Take note of an answer."""
        if replicas > 0:
            if self._told_at is not None:
                self._told_at = None
                logger.warning("a replica of Redis at %s keeps up again", self._where)
            return
        self.missed += 1
        if self._told_at is None or time.monotonic() - self._told_at > _REMIND_S:
            self._told_at = time.monotonic()
            logger.error(
                'durability="replicated", but no replica of Redis at %s has confirmed a write within %d ms: '
                "a failover may lose it",
                self._where,
                self.timeout_ms,
            )
