"""What folds share: which text and which thought of a reply are open, and what of a call was told already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentq.events.model import ReasoningDelta

if TYPE_CHECKING:
    from agentq.events.model import Delta, Event

# What every event has, and what no front end needs.
_COMMON = {"run_id", "seq", "at_ms", "type"}


@dataclass(slots=True)
class Streaming:
    """A piece of a reply as it streams: its id, and the text so far."""

    part_id: str
    is_thought: bool
    text: str = ""


@dataclass(slots=True)
class Reply:
    """What has streamed of the reply that is not complete. `pieces` are in order; the last one may be open.

    After a `torn` gap nothing is shown of it until it is complete: a part of its text is missing.
    """

    pieces: list[Streaming] = field(default_factory=list)
    open: Streaming | None = None
    torn: bool = False

    def take(self, delta: Delta, prefix: str) -> tuple[Streaming | None, bool]:
        """The piece that the delta closes, if it does, and whether it begins a piece. `open` is the one it is in."""
        is_thought = isinstance(delta, ReasoningDelta)
        closed = self.open if self.open is not None and self.open.is_thought != is_thought else None
        begins = self.open is None or closed is not None
        if begins:
            self.open = Streaming(f"{prefix}{delta.seq}", is_thought)
            self.pieces.append(self.open)
        if self.open is not None:
            self.open.text += delta.text
        return closed, begins

    def has(self, *, thought: bool) -> bool:
        """Whether something of the kind has streamed."""
        return any(piece.is_thought is thought for piece in self.pieces)


def facts_of(event: Event) -> dict[str, Any]:
    """What the event says, for a front end that knows agentq."""
    return event.model_dump(mode="json", exclude=_COMMON, exclude_none=True)
