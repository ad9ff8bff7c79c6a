"""Keeping schedules and carrying out their firings. Knows protocols only."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentq.errors import AgentQError, InvalidInput, ScheduleNotFound, StoreCorrupted, StoreUnavailable
from agentq.intake import check_tools, checked_limit, new_run
from agentq.schedules import LATE_MS, Schedule, ScheduleState, time_of
from agentq.settings import check_name
from agentq.stores.base import Firing

if TYPE_CHECKING:
    from agentq.catalogue import Catalogue
    from agentq.executors.base import Executor
    from agentq.settings import Settings
    from agentq.stores.base import NewRun, Store
    from agentq.stores.schedules import Schedules

logger = logging.getLogger(__name__)
# What of `enqueue` a schedule may say. A delay or a key would mean the same run each time.
OPTIONS = ("session_id", "user_id", "metadata", "queue", "model", "tools", "without", "ttl_s", "tenant", "priority")
# So many are read at once, and one look reads so often: many schedules are for the full hour, and none is to be late.
_DUE, _READS = 50, 200


class Scheduling:
    """The schedules of one store."""

    def __init__(self, store: Store, executor: Executor | None, settings: Settings, catalogue: Catalogue) -> None:
        self._store = store
        self._executor = executor
        self._settings = settings
        self._catalogue = catalogue

    async def add(self, schedule: Schedule) -> ScheduleState:
        """Keep a schedule; see `AsyncClient.schedule`."""
        odd = sorted(set(schedule.options) - set(OPTIONS))
        if odd:
            raise InvalidInput(f"a schedule has no {odd[0]}; it may have: {', '.join(OPTIONS)}", field=odd[0])
        new, _ = await self._run_of(schedule)
        kept = replace(schedule, options=_storable(schedule.options, new))
        now, _ = await self._book.due(1)
        await self._book.put(kept, schedule.after(now))
        return await self.find(schedule.name)

    async def list(self, limit: int) -> tuple[ScheduleState, ...]:
        """See `AsyncClient.schedules`."""
        _, found = await self._book.list(checked_limit(limit))
        return found

    async def find(self, name: str) -> ScheduleState:
        """A schedule. Raises `ScheduleNotFound`."""
        _, state = await self._found(name)
        return state

    async def remove(self, name: str) -> None:
        """See `AsyncClient.unschedule`."""
        with suppress(StoreCorrupted):  # what cannot be read can be forgotten
            await self._found(name)
        await self._book.remove(name)

    async def pause(self, name: str) -> None:
        """See `AsyncClient.pause_schedule`."""
        await self._found(name)
        await self._book.pause(name)

    async def resume(self, name: str) -> ScheduleState:
        """See `AsyncClient.resume_schedule`."""
        now, state = await self._found(name)
        if state.is_paused:
            await self._book.resume(name, state.schedule.after(now))
        return await self.find(name)

    async def run_now(self, name: str) -> tuple[str, str]:
        """Make a run of a schedule out of turn; its id and its agent. Raises `ScheduleNotFound`."""
        state = await self.find(name)
        new, _ = await self._run_of(state.schedule)
        await self._store_run(new)
        return new.run_id, new.agent

    async def fire(self) -> int:
        """Carry out what is due; how many runs were made. Any number of workers may do so at once.

        A schedule that cannot be carried out is logged and moved on, so that it holds up no other.
        """
        fired = 0
        for _ in range(_READS):
            now, due = await self._book.due(_DUE)
            fired += await self._fire_all(due, now)
            if len(due) < _DUE:
                break
        return fired

    async def _fire_all(self, due: Sequence[ScheduleState], now: int) -> int:
        fired = 0
        for state in due:
            name = state.schedule.name
            try:
                fired += await self._fire(state, now)
            except StoreUnavailable:
                raise
            except AgentQError as error:
                logger.error("schedule %s is not carried out, and goes on with its next time: %s", name, error)  # noqa: TRY400
                await self._skip(state, state.schedule.after(now), 1)
            except Exception:  # a bug that one schedule triggers must not end the others
                logger.exception("schedule %s is not carried out, and goes on with its next time", name)
                await self._skip(state, state.schedule.after(now), 1)
        return fired

    async def _fire(self, state: ScheduleState, now: int) -> int:
        schedule, seen = state.schedule, state.next_ms
        if seen is None:
            return 0
        slots = schedule.missed(seen, now) if schedule.catch_up == "all" else schedule.missed(seen, now, most=1)
        slot = slots[0] if slots else seen
        following = slots[1] if len(slots) > 1 else schedule.after(now)
        if schedule.catch_up == "none" and now - slot > LATE_MS:
            await self._skip(state, following, 1)
            return 0
        new, queue = await self._run_of(schedule, slot)
        firing = Firing(schedule.name, seen, slot, following, skips_open=schedule.overlap == "skip")
        created = await self._store_run(replace(new, queue=queue, firing=firing))
        if created:
            logger.info(
                "schedule %s, %s: run %s", schedule.name, time_of(slot), new.run_id, extra={"run_id": new.run_id}
            )
        return int(created)

    async def _skip(self, state: ScheduleState, following: int, skipped: int) -> None:
        if state.next_ms is not None:
            name = state.schedule.name
            await self._book.skip(name, seen_ms=state.next_ms, next_ms=following, skipped=skipped)

    async def _run_of(self, schedule: Schedule, slot: int | None = None) -> tuple[NewRun, str]:
        """The run of a firing, and its queue. Raises `InvalidInput`."""
        options: dict[str, Any] = dict(schedule.options)
        told = {"schedule": schedule.name} | ({} if slot is None else {"scheduled_for": time_of(slot)})
        given = options.get("metadata")
        if given is None or isinstance(given, Mapping):
            options["metadata"] = told | dict(given or {})
        new = new_run(self._settings, schedule.agent, schedule.prompt, **options)
        manifest = await self._catalogue.manifest(self._store, schedule.agent)
        check_tools(new.tools, manifest)
        queue = new.queue if options.get("queue") else manifest.get("queue") or new.queue
        return replace(new, queue=queue), queue

    async def _store_run(self, new: NewRun) -> bool:
        """Store a run and wake it; False where another worker has."""
        if self._executor is None:
            raise InvalidInput("this client has a store but no executor to wake its runs; pass executor= too")
        created = await self._store.create(new, wake=getattr(self._executor, "wakeup", None))
        if created.run_id == new.run_id and not created.woken:
            await self._executor.schedule_next_iteration(created.run_id)
        return not created.existed

    async def _found(self, name: str) -> tuple[int, ScheduleState]:
        check_name(name, field="name")
        now, state = await self._book.find(name)
        if state is None:
            raise ScheduleNotFound(f"there is no schedule {name!r}; `agentq schedule ls` lists them")
        return now, state

    @property
    def _book(self) -> Schedules:
        book: Schedules | None = getattr(self._store, "schedules", None)
        if book is None:
            raise InvalidInput("this store keeps no schedules", field="store")
        return book


def _storable(options: Mapping[str, Any], new: NewRun) -> dict[str, Any]:
    """The options as JSON gives them back, so that the same schedule said again is the same."""
    kept = {name: value for name, value in options.items() if value is not None and value != ()}
    for name in ("tools", "without"):
        if name in kept:
            kept[name] = list(kept[name])
    if "metadata" in kept:
        kept["metadata"] = {name: value for name, value in new.metadata.items() if name in kept["metadata"]}
    if "ttl_s" in kept and not isinstance(kept["ttl_s"], int | float):
        kept["ttl_s"] = dict(kept["ttl_s"])
    return kept
