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
    committed: int
    used_at: float


class _Coming(NamedTuple):
    transcript: Transcript
    fence: int


class Transcripts:
    """Run id → transcript, as long as there is room. The store says how long the true one is, and who committed last.

    Each is bound to the fence of the commit that left it so: a commit that is sent again, since its answer was lost,
    can meet a transcript that already has its messages.

    A full cache takes no further run: runs that wait in one line come back in the order in which they went, so a cache
    that makes room for the newest by dropping the oldest would never hold the one that is asked for.
    """

    def __init__(self, limit: int = _LIMIT, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._held: OrderedDict[str, _Held] = OrderedDict()
        # What held transcripts become if the commit is stored that is on its way. The claim that follows can overtake
        # the answer to that commit.
        self._coming: dict[str, _Coming] = {}
        self._size = 0

    def get(self, run_id: str, committed: int, length: int) -> Transcript | None:
        """The transcript after the commit of fence `committed`, if it is held and has so many messages of the run's."""
        held = self._held.get(run_id)
        if held is None:
            return None
        coming = self._coming.get(run_id)
        if held.committed == committed:
            known = held.transcript
        elif coming is not None and coming.fence == committed:
            known = coming.transcript
        else:
            return None
        return known if len(known.messages) == length else None

    def put(self, run_id: str, committed: int, transcript: Transcript) -> None:
        """Hold the transcript as the commit of fence `committed` left it, if there is room."""
        self.drop(run_id)
        now = self._now()
        self._make_room(_size(transcript), now)
        if not self._held or self._size + _size(transcript) <= self._limit:
            self._held[run_id] = _Held(transcript, committed, now)
            self._size += _size(transcript)

    def begin_commit(self, run_id: str, fence: int, messages: tuple[Message, ...]) -> bool:
        """Expect these messages at the end of the transcript; whether what they come after is held."""
        held = self._held.get(run_id)
        if held is None or held.committed >= fence:
            return False
        known = held.transcript
        self._coming[run_id] = _Coming(Transcript(known.history, known.messages + messages), fence)
        return True

    def end_commit(self, run_id: str, fence: int) -> None:
        """The commit was stored, and the run goes on."""
        coming = self._coming.get(run_id)
        # Else the next claim came first, and has put it already.
        if coming is not None and coming.fence == fence:
            self.put(run_id, fence, coming.transcript)

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
