"""What waits for the next batch of an iteration: steps, events, and those who want to know when they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.events.model import ReasoningDelta, TextDelta, ToolProgress

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from agentq.events.model import Event
    from agentq.stores.base import StepRecord


class Waiting:
    """Collects for one batch. Pieces of text that follow each other become one event, made when it is taken."""

    __slots__ = ("_events", "_kind", "_pieces", "records", "using_tools", "waiters")

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.using_tools = False
        self._events: list[Event] = []
        self._kind: type[TextDelta | ReasoningDelta] = TextDelta
        self._pieces: list[str] = []

    @property
    def has_events(self) -> bool:
        return bool(self._events or self._pieces)

    def add(self, event: Event) -> None:
        """Take an event, after those that are here."""
        if isinstance(event, TextDelta | ReasoningDelta):
            self.add_text(type(event), event.text)
            return
        self._join_pieces()
        last = self._events[-1] if self._events else None
        if isinstance(event, ToolProgress) and isinstance(last, ToolProgress) and last.call_id == event.call_id:
            # Who reports faster than anybody can read is heard now and then.
            self._events[-1] = event
        else:
            self._events.append(event)

    def add_text(self, kind: type[TextDelta | ReasoningDelta], text: str) -> None:
        """Take a piece of text. Costs one append, for models send thousands."""
        if kind is not self._kind:
            self._join_pieces()
            self._kind = kind
        self._pieces.append(text)

    def put_first(self, events: Iterable[Event]) -> None:
        """Put back what was taken."""
        self._events[:0] = events

    def take_events(self) -> list[Event]:
        """The events that wait. None waits afterwards."""
        self._join_pieces()
        events, self._events = self._events, []
        return events

    def _join_pieces(self) -> None:
        if self._pieces:
            self._events.append(self._kind(text="".join(self._pieces)))
            self._pieces = []
