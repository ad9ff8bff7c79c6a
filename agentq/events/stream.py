"""The protocol by which a run's events are read: replayed from a cursor, then live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.events.model import Event


class EventStream(Protocol):
    """Events of runs, each with the number that is its cursor."""

    def follow(self, run_id: str, *, after: int = 0, live: bool = True) -> AsyncIterator[Event]:
        """Yield every event past the cursor `after` once and in order; folded deltas come back as they were.

        With `live` it goes on until the run has ended, through lost connections; without, it stops at the last stored
        event. Raises `RunNotFound`, and `InvalidInput` when `after` lies beyond the last event.
        """
        ...
