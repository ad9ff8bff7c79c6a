"""Schedules as they stand in Redis; see `Schedules` in schedules.py."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agentq.errors import StoreCorrupted
from agentq.schedules import Schedule, ScheduleState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script


logger = logging.getLogger(__name__)


class RedisSchedules:
    """A hash for each schedule, and their names by next firing.

    What cannot be read here, for a newer version wrote it or this machine does not know its time zone, stays for those
    who can, and holds up no other.
    """

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts
        # Hashes that could not be read, and of which the log knows.
        self._odd: set[bytes] = set()

    async def put(self, schedule: Schedule, next_ms: int) -> None:
        await self._run("schedule", schedule.name, definition=schedule.encode(), next_ms=next_ms)

    async def remove(self, name: str) -> None:
        await self._run("unschedule", name)

    async def skip(self, name: str, *, seen_ms: int, next_ms: int, skipped: int) -> bool:
        return await self._move(name, seen_ms=seen_ms, next_ms=next_ms, skipped=skipped)

    async def pause(self, name: str) -> None:
        await self._move(name, paused=1)

    async def resume(self, name: str, next_ms: int) -> None:
        await self._move(name, next_ms=next_ms, paused=0)

    async def due(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        return await self._readable("due", limit + len(self._odd))

    async def list(self, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        return await self._readable("all", limit)

    async def find(self, name: str) -> tuple[int, ScheduleState | None]:
        now, found = await self._read(f"={name}", 1)
        return now, next(map(_state, found), None)

    async def _move(
        self, name: str, *, seen_ms: int | str = "", next_ms: int | str = "", paused: int | str = "", skipped: int = 0
    ) -> bool:
        (moved,) = await self._run(
            "move_schedule", name, seen_ms=seen_ms, next_ms=next_ms, paused=paused, skipped=skipped
        )
        return bool(moved)

    async def _run(self, script: str, name: str, **arguments: Any) -> Any:
        return await self._pipeline.run(
            self._script(script),
            about=f"schedule {name!r}",
            schedule=self._keys.schedule(name),
            schedules=self._keys.schedules,
            name=name,
            **arguments,
        )

    async def _readable(self, which: str, limit: int) -> tuple[int, tuple[ScheduleState, ...]]:
        now, found = await self._read(which, limit)
        states = []
        for raw in found:
            try:
                states.append(_state(raw))
            except StoreCorrupted as error:
                if (hash_ := b" ".join(raw)) not in self._odd:
                    self._odd.add(hash_)
                    logger.error("a schedule is left to others: %s; it is %.200r", error, hash_)  # noqa: TRY400
        return now, tuple(states)

    async def _read(self, which: str, limit: int) -> tuple[int, tuple[Sequence[bytes], ...]]:
        now, found = await self._pipeline.run(
            self._script("schedules"),
            schedules=self._keys.schedules,
            prefix=self._keys.prefix,
            which=which,
            limit=limit,
        )
        return now, tuple(raw for raw in found if raw)


def _state(raw: Sequence[bytes]) -> ScheduleState:
    """Raises `StoreCorrupted`."""
    of = {name.decode(): value.decode() for name, value in zip(raw[::2], raw[1::2], strict=True)}
    try:
        return ScheduleState(
            Schedule.decode(of["definition"].encode()),
            None if "paused" in of else int(of["slot"]),
            last_ms=int(of["last_slot"]) if "last_slot" in of else None,
            last_run_id=of.get("last_run"),
            fired=int(of.get("fired", 0)),
            skipped=int(of.get("skipped", 0)),
        )
    except (KeyError, ValueError) as error:
        raise StoreCorrupted(f"a stored schedule cannot be read: {error!r}") from error
