"""The `Schedules` protocol: what a store keeps of schedules, under its attribute `schedules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agentq.schedules import Schedule, ScheduleState


class Schedules(Protocol):
    """Schedules by name. Every call is idempotent; a firing is carried out by `Store.create`, see `NewRun.firing`."""

    async def put(self, schedule: Schedule, next_ms: int) -> None:
        """Keep a schedule that fires next at `next_ms`. One that stands there already: no effect.

        Another one takes the place of the former, with its counts; one that was paused stays so.
        """
        ...

    async def remove(self, name: str) -> None:
        """Forget a schedule. Its runs stay."""
        ...

    async def skip(self, name: str, *, seen_ms: int, next_ms: int, skipped: int) -> bool:
        """Move on without a run, unless another has moved the schedule from `seen_ms`. Raises `ScheduleNotFound`."""
        ...

    async def pause(self, name: str) -> None:
        """Let it not fire until it is resumed. Raises `ScheduleNotFound`."""
        ...

    async def resume(self, name: str, next_ms: int) -> None:
        """Let it fire again, at `next_ms` first. Raises `ScheduleNotFound`."""
        ...

    async def due(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        """The store's time in milliseconds, and schedules that are due, the most overdue first."""
        ...

    async def list(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        """The store's time, and all schedules, the next to fire first, those that are paused last."""
        ...

    async def find(self, name: str) -> tuple[int, ScheduleState | None]:
        """The store's time, and a schedule."""
        ...
