"""Schedules, for scripts whose answers are lost: each is sent twice, see lost_replies.py."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from agentq._ids import new_run_id
from agentq.errors import RunNotFound
from agentq.messages import user_message
from agentq.schedules import Schedule
from agentq.stores.base import Firing, NewRun

if TYPE_CHECKING:
    import random

    from agentq.stores.redis import RedisStore


class SendsSchedules:
    """The part of a world that keeps a schedule."""

    store: RedisStore
    dice: random.Random
    open_runs: list[str]
    wake: Any
    slot: int = 1_000

    async def do_schedule(self) -> None:
        """Another schedule in place of the last one, and its first firing."""
        self.slot += 1_000
        daily = Schedule("daily", "shop", f"Take {self.dice.random()}.", "@daily")
        await self.store.schedules.put(daily, self.slot)
        firing = Firing("daily", self.slot, self.slot, self.slot + 500, skips_open=self.dice.random() < 0.5)
        new = NewRun(new_run_id(), "shop", (user_message("x"),), firing=firing)
        await self.store.create(new, wake=self.wake)
        # Left out while the last one is open.
        with contextlib.suppress(RunNotFound):
            await self.store.read(new.run_id)
            self.open_runs.append(new.run_id)

    async def do_move_schedule(self) -> None:
        await self.do_schedule()
        book = self.store.schedules
        await book.skip("daily", seen_ms=self.slot + 500, next_ms=self.slot + 700, skipped=1)
        await book.pause("daily")
        await book.resume("daily", self.slot + 900)

    async def do_schedules(self) -> None:
        await self.store.schedules.list(10)
        await self.store.schedules.due(10)

    async def do_unschedule(self) -> None:
        await self.store.schedules.remove("daily")
