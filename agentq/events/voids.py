"""Deltas that were dropped with the reply they belonged to, given back without their text.

A viewer who was there saw them, one who comes later does not. Who folds events and counts what comes of it needs the
same events both times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.events.model import AttemptReset, Gap, ReasoningDelta, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agentq.events.model import Delta, Event


class Voids:
    """Puts an empty delta at each number that a reset covers and nobody has. Feed it all events, unknown kinds too."""

    def __init__(self, after: int = 0) -> None:
        self._next = after + 1
        # Events behind a number that is missing, until the reset that covers it: it is stored already.
        self._held: list[Event] = []

    def feed(self, event: Event) -> list[Event]:
        """The events to deliver now, in order."""
        if isinstance(event, Gap):
            self._next = event.seq + 1
            return [*self.rest(), event]
        self._held.append(event)
        if isinstance(event, AttemptReset) or (len(self._held) == 1 and event.seq <= self._next):
            return list(self._deliver([each for each in self._held if isinstance(each, AttemptReset)]))
        return []

    def rest(self) -> list[Event]:
        """What is held at the end of the stream, or where a part of it is gone."""
        held, self._held = self._held, []
        return held

    def _deliver(self, resets: list[AttemptReset]) -> Iterator[Event]:
        held, self._held = self._held, []
        for position, event in enumerate(held):
            while self._next < event.seq:
                reset = next((each for each in resets if each.covers(self._next)), None)
                if reset is None:
                    self._held = held[position:]
                    return
                yield _voided(reset, self._next)
                self._next += 1
            yield event
            self._next = event.seq + 1


def _voided(reset: AttemptReset, seq: int) -> Delta:
    """The delta with this number, empty; its time is that of the reset."""
    kind = ReasoningDelta if any(first <= seq <= last for first, last in reset.reasoning) else TextDelta
    return kind(run_id=reset.run_id, seq=seq, at_ms=reset.at_ms, text="")


async def with_voided(events: AsyncIterator[Event], after: int = 0) -> AsyncIterator[Event]:
    """The events past `after`, with the dropped deltas among them."""
    voids = Voids(after)
    async for event in events:
        for each in voids.feed(event):
            yield each
    for each in voids.rest():
        yield each
