"""Transcripts that this process wrote last, so that a claim sends only what is new."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agentq.messages import Message

# Bounded by messages, the unit that costs: about 1 KB each, so 50 MB at the most in the usual case.
_LIMIT = 50_000


class Transcript(NamedTuple):
    """What a run sees: the messages that its session had before it, and its own."""

    history: tuple[Message, ...]
    messages: tuple[Message, ...]


_EMPTY = Transcript((), ())


class Transcripts:
    """A least-recently-used cache: run id → transcript. The store says how long the true one is."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._held: OrderedDict[str, Transcript] = OrderedDict()
        self._size = 0

    def get(self, run_id: str) -> Transcript | None:
        return self._held.get(run_id)

    def put(self, run_id: str, transcript: Transcript) -> None:
        self.drop(run_id)
        self._held[run_id] = transcript
        self._size += _size(transcript)
        while self._size > self._limit and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._size -= _size(oldest)

    def extend(self, run_id: str, messages: tuple[Message, ...]) -> None:
        """Add what a commit appended, if the run is held."""
        known = self._held.get(run_id)
        if known is not None:
            self.put(run_id, Transcript(known.history, known.messages + messages))

    def drop(self, run_id: str) -> None:
        self._size -= _size(self._held.pop(run_id, _EMPTY))


def _size(transcript: Transcript) -> int:
    return len(transcript.history) + len(transcript.messages)
