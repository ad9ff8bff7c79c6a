"""Frames: what a protocol makes of a run's events, numbered so that who was cut off goes on where it was.

A fold takes events in order and says what each becomes; it does no I/O. The number of a frame is `<seq>.<k>`, the k-th
of what the event `seq` became. To go on after a frame is to fold from the start and to skip: nothing is stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agentq.errors import InvalidInput
from agentq.events.model import RunCancelledEvent, RunCompleted, RunFailedEvent, RunWaiting
from agentq.runs import FOR_PEOPLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.events.model import Event

    Body = Mapping[str, Any]

_CURSOR = re.compile(r"([0-9]{1,15})\.([0-9]{1,6})")
_TURN = re.compile(r"([0-9A-Z]{26})(?:@([0-9]{1,15}))?")
_QUESTION = re.compile(r"(([0-9A-Z]{26})\.[0-9]{1,9}\.[0-9]{1,9})@([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Pieces:
    """What one event becomes.

    Where a turn of the conversation ends with the event, `closing` is how the stream of that turn ends, and `opening`
    how the one begins that goes on from there.
    """

    body: Sequence[Body] = ()
    closing: Sequence[Body] = ()
    opening: Sequence[Body] = ()


class Fold(Protocol):
    """A protocol: a deterministic fold over the events of one run, from the first one on."""

    def take(self, event: Event) -> Pieces:
        """What the event becomes after those that came before. A kind that means nothing here becomes nothing."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Frame:
    """One message to a client. Frames are in the order of their numbers."""

    seq: int
    k: int
    body: Body = field(compare=False)

    @property
    def cursor(self) -> str:
        return f"{self.seq}.{self.k}"


Position = tuple[int, int]
START: Position = (0, -1)


def position(cursor: str, *, field: str = "Last-Event-ID") -> Position:
    """Where a client is that has seen the frame with this number. Raises `InvalidInput`."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput(f"{field} must be the number of a frame, such as 12.0, not {cursor!r:.40}", field=field)
    return int(found[1]), int(found[2])


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of a run that a front end takes for one turn: from the start, or from a question to a person on.

    `after` is the number of the event at which the turn before it ended, 0 for the first one.
    """

    run_id: str
    after: int = 0

    def __str__(self) -> str:
        return f"{self.run_id}@{self.after}" if self.after else self.run_id


def turn(text: str) -> Turn | None:
    """The turn of this name; None where it is no such name."""
    found = _TURN.fullmatch(text)
    return Turn(found[1], int(found[2] or 0)) if found else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a person, by the call and the event that asked."""

    call_id: str
    seq: int

    def __str__(self) -> str:
        return f"{self.call_id}@{self.seq}"

    @property
    def turn(self) -> Turn:
        """The turn that goes on from the question."""
        return Turn(self.call_id.partition(".")[0], self.seq)


def asked(text: str) -> Asked | None:
    """The question of this name; None where it is no such name."""
    found = _QUESTION.fullmatch(text)
    return Asked(found[1], int(found[3])) if found else None


def ends_turn(event: Event) -> bool:
    """Whether the turn ends here: the run has ended, or asks a person something."""
    return isinstance(event, RunCompleted | RunFailedEvent | RunCancelledEvent) or asks_people(event)


def asks_people(event: Event) -> bool:
    """Whether the event asks a person something."""
    return isinstance(event, RunWaiting) and event.kind in FOR_PEOPLE


class Projection:
    """The frames of one stream: those of one turn, or, where turns that have ended are passed over, of several.

    Feed it all events of the run, from the first one on.
    """

    def __init__(self, fold: Fold, *, begins_after: int = 0) -> None:
        self._fold = fold
        self._begins_after = begins_after
        self._is_on = not begins_after
        self._closing: list[Frame] = []

    def take(self, event: Event) -> list[Frame]:
        """The frames of the event. When it ends the turn, `closing` has the rest."""
        pieces = self._fold.take(event)
        body = [Frame(event.seq, k, each) for k, each in enumerate(pieces.body)]
        self._closing = [Frame(event.seq, k, each) for k, each in enumerate(pieces.closing, start=len(body))]
        if self._is_on:
            return body
        if event.seq < self._begins_after:
            return []
        self._is_on = True
        first = len(body) + len(self._closing)
        self._closing = []
        if event.seq == self._begins_after and pieces.opening:
            return [Frame(event.seq, k, each) for k, each in enumerate(pieces.opening, start=first)]
        # The event at which it should begin is gone, or ended no turn.
        return body if event.seq > self._begins_after else []

    def ends(self, event: Event) -> bool:
        """Whether a turn of this stream ends with the event that was just taken."""
        return self._is_on and event.seq > self._begins_after and ends_turn(event)

    def closing(self) -> list[Frame]:
        """The frames that end the stream at the event that was just taken."""
        return self._closing
