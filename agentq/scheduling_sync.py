"""What a `Client` does with schedules: the calls of scheduling_async.py, and they block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentq._portal import Portal
    from agentq.schedules import CatchUp, Overlap, ScheduleState
    from agentq.scheduling_async import KeepsSchedules as Asynchronous


class KeepsSchedules:
    """The part of `Client` that keeps schedules."""

    _client: Asynchronous
    _portal: Portal

    def schedule(
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
        return self._portal.call(
            self._client.schedule,
            name,
            agent,
            prompt,
            cron=cron,
            timezone=timezone,
            catch_up=catch_up,
            overlap=overlap,
            **options,
        )

    def schedules(self, *, limit: int = 1000) -> tuple[ScheduleState, ...]:
        """All schedules, the next to fire first, those that are paused last."""
        return self._portal.call(self._client.schedules, limit=limit)

    def unschedule(self, name: str) -> None:
        """Forget a schedule; its runs stay. Raises `ScheduleNotFound`."""
        self._portal.call(self._client.unschedule, name)

    def pause_schedule(self, name: str) -> None:
        """Let a schedule not fire until it is resumed. Raises `ScheduleNotFound`."""
        self._portal.call(self._client.pause_schedule, name)

    def resume_schedule(self, name: str) -> ScheduleState:
        """Let a schedule fire again, at its next time; what came meanwhile is not made up for."""
        return self._portal.call(self._client.resume_schedule, name)

    def run_schedule(self, name: str) -> str:
        """Make a run of a schedule now, out of turn, and return its id. Raises `ScheduleNotFound`."""
        return self._portal.call(self._client.run_schedule, name)
