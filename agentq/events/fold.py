"""Folding: deltas become lengths inside the reply that completes them, and come back as the very same events.

Pure and synchronous. The streams of both stores read through `Replayer`.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from agentq.events.model import (
    AttemptReset,
    Delta,
    Event,
    FoldedRange,
    Gap,
    ReasoningDelta,
    ReplyCompleted,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def fold(deltas: Sequence[Delta]) -> tuple[FoldedRange, ...]:
    """What `ReplyCompleted.deltas` says of numbered `deltas`: one range per kind and unbroken run of numbers."""
    return tuple(
        FoldedRange(
            first=piece[0].seq,
            kind="text" if isinstance(piece[0], TextDelta) else "reasoning",
            lengths=tuple(len(delta.text) for delta in piece),
            at_ms=tuple(delta.at_ms for delta in piece),
        )
        for unbroken in _unbroken(deltas)
        for _, grouped in groupby(unbroken, key=type)
        for piece in [list(grouped)]
    )


def unfold(reply: ReplyCompleted) -> tuple[Delta, ...]:
    """The deltas that `reply` stands for, in order of number, as they were before they were folded."""
    deltas: list[Delta] = []
    start = {"text": 0, "reasoning": 0}
    for piece in sorted(reply.deltas, key=lambda piece: piece.first):
        is_text = piece.kind == "text"
        whole = reply.text if is_text else reply.reasoning
        make = TextDelta if is_text else ReasoningDelta
        for seq, (length, at_ms) in enumerate(zip(piece.lengths, piece.at_ms, strict=True), start=piece.first):
            end = start[piece.kind] + length
            text = whole[start[piece.kind] : end]
            deltas.append(make(run_id=reply.run_id, seq=seq, at_ms=at_ms, text=text))
            start[piece.kind] = end
    return tuple(deltas)


def ranges(deltas: Iterable[Delta]) -> tuple[tuple[int, int], ...]:
    """The numbers of `deltas` as inclusive unbroken ranges, kinds mixed: what `EventBatch.fold` takes."""
    return tuple((unbroken[0].seq, unbroken[-1].seq) for unbroken in _unbroken(deltas))


def _unbroken(deltas: Iterable[Delta]) -> Iterator[list[Delta]]:
    ordered = sorted(deltas, key=lambda delta: delta.seq)
    for _, grouped in groupby(enumerate(ordered), key=lambda pair: pair[1].seq - pair[0]):
        yield [delta for _, delta in grouped]


class Replayer:
    """A reader's bookkeeping: which of the stored events to deliver now, each once and in order of number.

    Feed it what range reads return, page by page, each page read after `fed`. The writer deletes deltas only in the
    write that adds their fold or their reset, so a page never lacks a number that some event up to the end of the
    stream does not account for, except for what a byte limit trimmed.

    An event that was pushed (pub/sub) is no range read: what was lost before it must not pass for a deleted delta. Feed
    one only when its number is at most `cursor + 1`; otherwise read the range after `cursor` and feed that.
    """

    def __init__(self, after: int = 0) -> None:
        self._cursor = after
        self._fed = after
        self._ahead: dict[int, Event] = {}
        self._resets: list[AttemptReset] = []

    @property
    def cursor(self) -> int:
        """The last number that was delivered or passed over."""
        return self._cursor

    @property
    def fed(self) -> int:
        """The last number that was fed; the next page starts after it."""
        return self._fed

    @property
    def is_holding(self) -> bool:
        """Whether events are held back behind missing numbers."""
        return bool(self._ahead)

    def feed(self, events: Iterable[Event], complete: bool) -> list[Event]:
        """Take the next page; `complete` says that it reached the end of the stream. Returns what to deliver.

        Behind missing numbers, events are held back until the reply into which those were folded (they are delivered
        first) or the reset that dropped them (they are passed over) is fed. What nothing accounts for when the page is
        complete becomes a `Gap` without messages, whose `seq` is its `last`.
        """
        for event in events:
            if event.seq > self._fed:
                self._fed = event.seq
            self._take(event)
            if isinstance(event, ReplyCompleted):
                for delta in unfold(event):
                    self._take(delta)
            elif isinstance(event, AttemptReset):
                self._resets.append(event)
        return list(self._deliver(complete))

    def _take(self, event: Event) -> None:
        if event.seq > self._cursor:
            self._ahead.setdefault(event.seq, event)

    def _deliver(self, complete: bool) -> Iterator[Event]:
        while self._ahead:
            number = self._cursor + 1
            if (event := self._ahead.pop(number, None)) is not None:
                self._cursor = number
                yield event
            elif any(reset.covers(number) for reset in self._resets):
                self._cursor = number
            elif complete:
                yield self._gap(number)
            else:
                break
        self._resets = [reset for reset in self._resets if reset.last > self._cursor]

    def _gap(self, first: int) -> Gap:
        """Move the cursor over the numbers from `first` on that nothing accounts for."""
        following = self._ahead[min(self._ahead)]
        known = [number for reset in self._resets if (number := _next_covered(reset, first)) is not None]
        self._cursor = min(following.seq, *known) - 1 if known else following.seq - 1
        return Gap(run_id=following.run_id, seq=self._cursor, at_ms=following.at_ms, first=first, last=self._cursor)


def _next_covered(reset: AttemptReset, after: int) -> int | None:
    """The first delta past `after` that `reset` dropped."""
    number = max(after + 1, reset.first)
    while number in reset.kept:
        number += 1
    return number if number <= reset.last else None
