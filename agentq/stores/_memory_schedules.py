"""Schedules in memory; see `Schedules`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentq.errors import ScheduleNotFound
from agentq.schedules import ScheduleState

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.schedules import Schedule
    from agentq.stores._memory_run import MemoryRun
    from agentq.stores.data import Firing


class MemorySchedules:
    """A dictionary. `known` finds runs."""

    def __init__(self, now_ms: Callable[[], int], known: Callable[[str], MemoryRun | None]) -> None:
        self._now_ms = now_ms
        self._known = known
        self._states: dict[str, ScheduleState] = {}
        # When each fires next, also those that are paused.
        self._slots: dict[str, int] = {}

    async def put(self, schedule: Schedule, next_ms: int) -> None:
        state = self._states.get(schedule.name)
        if state is not None and state.schedule == schedule:
            return
        self._slots[schedule.name] = next_ms
        if state is None:
            self._states[schedule.name] = ScheduleState(schedule, next_ms)
        else:
            paused = state.next_ms is None
            self._states[schedule.name] = replace(state, schedule=schedule, next_ms=None if paused else next_ms)

    async def remove(self, name: str) -> None:
        self._states.pop(name, None)
        self._slots.pop(name, None)

    async def skip(self, name: str, *, seen_ms: int, next_ms: int, skipped: int) -> bool:
        state = self._found(name)
        if self._slots[name] != seen_ms:
            return self._slots[name] == next_ms
        self._move(name, replace(state, skipped=state.skipped + skipped), next_ms)
        return True

    async def pause(self, name: str) -> None:
        self._states[name] = replace(self._found(name), next_ms=None)

    async def resume(self, name: str, next_ms: int) -> None:
        self._slots[name], self._states[name] = next_ms, replace(self._found(name), next_ms=next_ms)

    def fires(self, firing: Firing, run_id: str) -> bool:
        """Whether a new run is this firing; the schedule moves on."""
        state = self._states.get(firing.schedule)
        if state is None or state.next_ms != firing.seen_ms:
            return False
        last = self._known(state.last_run_id or "")
        if firing.skips_open and last is not None and not last.state.status.is_final:
            self._move(firing.schedule, replace(state, skipped=state.skipped + 1), firing.next_ms)
            return False
        fired = replace(state, last_ms=firing.slot_ms, last_run_id=run_id, fired=state.fired + 1)
        self._move(firing.schedule, fired, firing.next_ms)
        return True

    def _move(self, name: str, state: ScheduleState, next_ms: int) -> None:
        self._slots[name] = next_ms
        self._states[name] = state if state.next_ms is None else replace(state, next_ms=next_ms)

    async def due(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        now, states = await self.list(limit)
        return now, tuple(state for state in states if state.next_ms is not None and state.next_ms <= now)

    async def list(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        ordered = sorted(self._states.values(), key=lambda state: (state.next_ms or float("inf"), state.schedule.name))
        return self._now_ms(), tuple(ordered[:limit])

    async def find(self, name: str) -> tuple[int, ScheduleState | None]:
        return self._now_ms(), self._states.get(name)

    def _found(self, name: str) -> ScheduleState:
        if name not in self._states:
            raise ScheduleNotFound(f"schedule {name!r}: there is no such schedule")
        return self._states[name]
