"""What an `AsyncClient` does with schedules. The work itself is `Scheduling`'s."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from agentq.schedules import CatchUp, Overlap, Schedule, ScheduleState

if TYPE_CHECKING:
    from agentq.scheduling import Scheduling


class KeepsSchedules:
    """The part of `AsyncClient` that keeps schedules."""

    @abstractmethod
    def _scheduling(self) -> Scheduling: ...

    async def schedule(
        self,
        name: str,
        agent: str,
        prompt: str,
        *,
        cron: str,
        timezone: str = "UTC",
        catch_up: CatchUp = "last",
        overlap: Overlap = "allow",
        **options: Any,
    ) -> ScheduleState:
        """Have workers enqueue the prompt at the times of a cron expression, in a time zone; see `Schedule`.

        `options` are those of `enqueue` that make sense each time: session_id, user_id, metadata, queue, model, tools,
        without, ttl_s, tenant, priority. The same schedule again: no effect, so a program may say it at each start.
        Another one of that name takes its place. Raises `InvalidInput`.
        """
        schedule = Schedule(name, agent, prompt, cron, timezone, catch_up, overlap, options)
        return await self._scheduling().add(schedule)

    async def schedules(self, *, limit: int = 1000) -> tuple[ScheduleState, ...]:
        """All schedules, the next to fire first, those that are paused last."""
        return await self._scheduling().list(limit)

    async def unschedule(self, name: str) -> None:
        """Forget a schedule; its runs stay. Raises `ScheduleNotFound`."""
        await self._scheduling().remove(name)

    async def pause_schedule(self, name: str) -> None:
        """Let a schedule not fire until it is resumed. Raises `ScheduleNotFound`."""
        await self._scheduling().pause(name)

    async def resume_schedule(self, name: str) -> ScheduleState:
        """Let a schedule fire again, at its next time; what came meanwhile is not made up for."""
        return await self._scheduling().resume(name)

    async def run_schedule(self, name: str) -> str:
        """Make a run of a schedule now, out of turn, and return its id. Raises `ScheduleNotFound`."""
        run_id, _ = await self._scheduling().run_now(name)
        return run_id
