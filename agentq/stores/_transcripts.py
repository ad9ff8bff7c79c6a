"""Transcripts of the runs that this process works on, so that a claim sends only what is new."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.messages import Message

# Bounded by messages, the unit that costs: about 1 KB each, so 50 MB at the most in the usual case.
_LIMIT = 50_000
# A run that has not come back for so long went on elsewhere, or waits for somebody.
_IDLE_S = 60.0


class Transcript(NamedTuple):
    """What a run sees: the messages that its session had before it, and its own."""

    history: tuple[Message, ...]
    messages: tuple[Message, ...]


class _Held(NamedTuple):
    transcript: Transcript
    used_at: float


class Transcripts:
    """Run id → transcript, as long as there is room. The store says how long the true one is.

    A full cache takes no further run: runs that wait in one line come back in the order in which they went, so a cache
    that makes room for the newest by dropping the oldest would never hold the one that is asked for.
    """

    def __init__(self, limit: int = _LIMIT, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._held: OrderedDict[str, _Held] = OrderedDict()
        # What held transcripts become if the commit is stored that is on its way. The claim that follows can overtake
        # the answer to that commit.
        self._coming: dict[str, Transcript] = {}
        self._size = 0

    def get(self, run_id: str, length: int) -> Transcript | None:
        """The transcript, if the one that is held has so many messages of the run's own."""
        held = self._held.get(run_id)
        if held is None:
            return None
        if len(held.transcript.messages) == length:
            return held.transcript
        coming = self._coming.get(run_id)
        return coming if coming is not None and len(coming.messages) == length else None

    def put(self, run_id: str, transcript: Transcript) -> None:
        """Hold a transcript, if there is room."""
        self.drop(run_id)
        now = self._now()
        self._make_room(_size(transcript), now)
        if not self._held or self._size + _size(transcript) <= self._limit:
            self._held[run_id] = _Held(transcript, now)
            self._size += _size(transcript)

    def begin_commit(self, run_id: str, messages: tuple[Message, ...]) -> bool:
        """Expect these messages at the end of the transcript; whether it is held."""
        held = self._held.get(run_id)
        if held is None:
            return False
        known = held.transcript
        self._coming[run_id] = Transcript(known.history, known.messages + messages)
        return True

    def end_commit(self, run_id: str) -> None:
        """The commit was stored, and the run goes on."""
        # None: the next claim came first, and has put it already.
        coming = self._coming.pop(run_id, None)
        if coming is not None:
            self.put(run_id, coming)

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        self._coming.pop(run_id, None)
        held = self._held.pop(run_id, None)
        if held is not None:
            self._size -= _size(held.transcript)

    def _make_room(self, size: int, now: float) -> None:
        while self._held and self._size + size > self._limit:
            oldest = next(iter(self._held))
            if now - self._held[oldest].used_at < _IDLE_S:
                return
            self.drop(oldest)


def _size(transcript: Transcript) -> int:
    return len(transcript.history) + len(transcript.messages)
