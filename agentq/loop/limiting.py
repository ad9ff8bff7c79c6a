"""How a run stands with its limits while an iteration works on it, and the end of its time."""

from __future__ import annotations

import asyncio
import math
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from agentq.events.limits import LimitReached
from agentq.limits import UNLIMITED, RunLimits, Shared, Standing
from agentq.loop.interrupts import Interrupt
from agentq.loop.writer import patiently
from agentq.messages import Usage
from agentq.runs import LIMIT, Question
from agentq.stores.base import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq._clock import Clock
    from agentq.limits import Meter, Reached, SpendLimit
    from agentq.loop.agent import Agent
    from agentq.loop.interrupts import Interrupts
    from agentq.runs import RunState
    from agentq.stores.base import Store

_SPREAD_MS = 60_000


class Limiting:
    """The limits of one claimed run. The store's clock says when it was claimed, ours how long ago that is."""

    def __init__(self, agent: Agent, run: RunState, clock: Clock, interrupts: Interrupts) -> None:
        self._limits = (run.limits or RunLimits()).over(agent.limits) if run.limits or agent.limits else None
        self._run = run
        self._clock = clock
        self._interrupts = interrupts
        self._claimed = clock.monotonic()
        self._timer: asyncio.Task[None] | None = None
        self._metered = metered(agent.spend, run)
        # Where the run is counted together with others.
        self.meters: tuple[Meter, ...] = tuple(dict.fromkeys(meter for _, meter in self._metered))
        self._shared: tuple[Shared, ...] = ()

    async def start(self, store: Store, is_lost: Callable[[], bool]) -> None:
        """See what is used together, and stop the iteration when the run's time is over. Raises `StoreUnavailable`."""
        if self.meters:
            # Once an iteration: the model is asked once in it. Only here, so that others pay nothing for it.
            spent = await patiently(lambda: store.spent(self.meters), self._clock, is_lost)
            used = dict(zip(self.meters, spent, strict=True))
            self._shared = tuple(Shared(limit, meter, used[meter]) for limit, meter in self._metered)
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
            return Standing(shared=self._shared) if self._shared else UNLIMITED
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
            shared=self._shared,
        )

    def bounded(self, rest: Rest) -> Rest:
        """The rest, no longer than the run's time: when that is over, it is claimed once more, and ends."""
        wall_s = None if self._limits is None else self._limits.wall_s
        if wall_s is None or (left_ms := math.ceil(wall_s * 1000 - self.standing().wall_ms)) <= 0:
            return rest
        return rest if 0 < rest.within_ms <= left_ms else replace(rest, within_ms=left_ms)


def metered(limits: Sequence[SpendLimit], run: RunState) -> tuple[tuple[SpendLimit, Meter], ...]:
    """The limits of runs together that concern the run, and where it is counted."""
    found = ((limit, limit.meter(agent=run.agent, user_id=run.user_id, session_id=run.session_id)) for limit in limits)
    return tuple((limit, meter) for limit, meter in found if meter is not None)


def resting_at(reached: Reached, run: RunState) -> Rest:
    """How a run rests that waits until it may use more."""
    question = Question(call_id="", tool="", text=reached.text, kind=LIMIT)
    within_ms = reached.within_ms and reached.within_ms + _spread_ms(run)
    return Rest((question,), run.signals, (told_of(reached),), within_ms=within_ms)


def _spread_ms(run: RunState) -> int:
    """Up to a minute, by the run's own id: those that wait for midnight must not all come at the same moment."""
    return zlib.crc32(run.run_id.encode()) % _SPREAD_MS


def told_of(reached: Reached) -> LimitReached:
    """What viewers hear of it."""
    return LimitReached(
        limit=reached.limit,
        of=reached.of,
        used=reached.used,
        allowed=reached.allowed,
        on_reached=reached.on_reached,
        within_ms=reached.within_ms,
        window=reached.window,
    )
