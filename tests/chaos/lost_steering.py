"""The part of the world in which replies are lost that is about pauses, and what else people do to runs."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentq._ids import new_token
from agentq.errors import CancelRequested, InboxFull, SessionBusy
from agentq.events.model import RunSteered
from agentq.messages import user_message
from agentq.stores.base import Steer

if TYPE_CHECKING:
    import random

    from agentq.stores.redis import RedisStore


class Steered:
    """One method for each script, named after it."""

    store: RedisStore
    dice: random.Random
    open_runs: list[str]
    paused: set[str]
    # What was sent into a run keeps it from completing until a claim has appended it.
    steered: set[str]

    @property
    @abstractmethod
    def wake(self) -> Any: ...

    @abstractmethod
    async def take_wakeups(self) -> None: ...

    @abstractmethod
    async def do_sweep(self) -> None: ...

    async def do_pause(self) -> None:
        run_id = self.dice.choice(self.open_runs)
        try:
            await self.store.pause(run_id, reason="wait")
        except CancelRequested:
            return
        self.paused.add(run_id)

    async def do_resume(self) -> None:
        await self.do_pause()
        await self.resume()

    async def resume(self) -> None:
        for run_id in sorted(self.paused):
            await self.store.resume(run_id, wake=self.wake)
        self.paused.clear()

    async def do_pause_all(self) -> None:
        await self.store.pause_all(self.dice.choice(("agent:shop", "queue:other")), reason="wait")

    async def do_resume_all(self) -> None:
        await self.do_pause_all()
        await self.take_wakeups()
        await self.resume_all()

    async def resume_all(self) -> None:
        for scope in await self.store.pauses():
            await self.store.resume_all(scope)
        await self.do_sweep()

    async def do_delete_session(self) -> None:
        with suppress(SessionBusy):
            await self.store.delete_session("nobody's")

    async def do_steer(self) -> None:
        steer = Steer(new_token(), user_message("in euros"), (RunSteered(text="in euros"),))
        run_id = self.dice.choice(self.open_runs)
        try:
            await self.store.steer(run_id, steer)
        except (CancelRequested, InboxFull):
            return
        self.steered.add(run_id)
