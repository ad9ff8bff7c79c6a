"""How a run stands with its limits while an iteration works on it, and the end of its time."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from agentq.events.limits import LimitReached
from agentq.limits import UNLIMITED, RunLimits, Standing
from agentq.loop.interrupts import Interrupt
from agentq.messages import Usage
from agentq.runs import LIMIT, Question
from agentq.stores.base import Rest

if TYPE_CHECKING:
    from agentq._clock import Clock
    from agentq.limits import Reached
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.runs import RunState


class Limiting:
    """The limits of one claimed run. The store's clock says when it was claimed, ours how long ago that is."""

    def __init__(self, agent: Agent, run: RunState, clock: Clock, interrupts: Interrupts) -> None:
        self._limits = (run.limits or RunLimits()).over(agent.limits) if run.limits or agent.limits else None
        self._run = run
        self._clock = clock
        self._interrupts = interrupts
        self._claimed = clock.monotonic()
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Stop the iteration when the run's time is over."""
        left_ms = self.standing().left_ms()
        if left_ms is not None:
            self._timer = asyncio.get_running_loop().create_task(self._stop_in(left_ms / 1000))

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)

    async def _stop_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        # A clock may be a little early.
        while left_ms := self.standing().left_ms():
            await self._clock.sleep(left_ms / 1000)
        self._interrupts.stop(Interrupt.TIME)

    def standing(self) -> Standing:
        """What the run has used up to now."""
        if self._limits is None:
            return UNLIMITED
        run = self._run
        passed_ms = (self._clock.monotonic() - self._claimed) * 1000
        used, before = Usage(**run.usage), Usage(**run.retried_usage)
        return Standing(
            self._limits,
            tokens=used.total_tokens - before.total_tokens,
            cost_nanousd=(used.cost_nanousd or 0) - (before.cost_nanousd or 0),
            iterations=run.iteration - run.retried_at,
            wall_ms=run.updated_ms - run.started_ms + passed_ms,
            idle_ms=run.updated_ms - run.progressed_ms + passed_ms,
        )

    def bounded(self, rest: Rest) -> Rest:
        """The rest, no longer than the run's time: when that is over, it is claimed once more, and ends."""
        wall_s = None if self._limits is None else self._limits.wall_s
        if wall_s is None or (left_ms := math.ceil(wall_s * 1000 - self.standing().wall_ms)) <= 0:
            return rest
        return rest if 0 < rest.within_ms <= left_ms else replace(rest, within_ms=left_ms)


def resting_at(reached: Reached, signals_seen: int) -> Rest:
    """How a run rests that waits until it may use more."""
    question = Question(call_id="", tool="", text=reached.text, kind=LIMIT)
    return Rest((question,), signals_seen, (told_of(reached),), within_ms=reached.within_ms)


def told_of(reached: Reached) -> LimitReached:
    """What viewers hear of it."""
    return LimitReached(
        limit=reached.limit,
        of=reached.of,
        used=reached.used,
        allowed=reached.allowed,
        on_reached=reached.on_reached,
        within_ms=reached.within_ms,
    )
