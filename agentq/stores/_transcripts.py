"""Transcripts that this process wrote last, so that a claim sends only what is new."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentq.messages import Message

# Bounded by messages, the unit that costs: about 1 KB each, so 50 MB at the most in the usual case.
_LIMIT = 50_000


class Transcripts:
    """A least-recently-used cache: run id → messages. The store says how long the true transcript is."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._held: OrderedDict[str, tuple[Message, ...]] = OrderedDict()
        self._size = 0

    def get(self, run_id: str) -> tuple[Message, ...] | None:
        return self._held.get(run_id)

    def put(self, run_id: str, messages: tuple[Message, ...]) -> None:
        self.drop(run_id)
        self._held[run_id] = messages
        self._size += len(messages)
        while self._size > self._limit and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._size -= len(oldest)

    def extend(self, run_id: str, messages: tuple[Message, ...]) -> None:
        """Add what a commit appended, if the run is held."""
        known = self._held.get(run_id)
        if known is not None:
            self.put(run_id, known + messages)

    def drop(self, run_id: str) -> None:
        self._size -= len(self._held.pop(run_id, ()))
