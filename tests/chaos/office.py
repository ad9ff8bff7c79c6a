"""People in a campaign: they decide, answer and signal, steer and pause runs, now and then two at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from agentq.errors import AlreadyDecided, InboxFull, InvalidInput, NotWaiting, RunAlreadyFinished, StoreUnavailable
from agentq.runs import APPROVAL, INPUT, SIGNAL, Status
from tests.chaos.shapes import NOTED, STEERED

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from agentq import AsyncClient
    from agentq.runs import Question, RunState
    from tests.chaos.checks import Planned

_LOOK_S = 0.05
_TOO_LATE = (NotWaiting, AlreadyDecided, RunAlreadyFinished, InboxFull)
# Of looks: how often a run, or everything, is paused for a moment.
_HOLDS, _HOLDS_ALL = 0.25, 0.01


class Office:
    """Acts on `planned` runs by `insist`, which calls again while Redis is away."""

    def __init__(
        self,
        client: AsyncClient,
        dice: random.Random,
        planned: Sequence[Planned],
        insist: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
    ) -> None:
        self._client = client
        self._dice = dice
        self._planned = planned
        self._insist = insist
        self._steered: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.decisions = 0
        self.holds = 0

    async def work(self) -> None:
        """Look what waits, again and again, until this is cancelled."""
        while True:
            waiting = await self._insist(lambda: self._client.list(status=Status.WAITING, limit=200))
            await asyncio.gather(*(self._attend(run) for run in waiting))
            if not self._is_closing:
                await self._disturb()
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Hold nothing up any more; what waits is still looked after."""
        self._is_closing = True
        await asyncio.gather(*self._tasks)

    async def _attend(self, run: RunState) -> None:
        for question in run.questions:
            if question.kind in (APPROVAL, INPUT, SIGNAL):
                await self._say(run.run_id, question)

    async def _say(self, run_id: str, question: Question) -> None:
        client, call_id, name = self._client, question.call_id, str(question.arguments.get("name", ""))
        match question.kind:
            case "approval" if name == "race":
                await asyncio.gather(
                    self._try(lambda: client.approve(run_id, call_id, by="ann")),
                    self._try(lambda: client.deny(run_id, call_id, reason="no", by="bob")),
                )
            case "approval" if name == "late":
                # It expires at about this moment.
                await asyncio.sleep(max(question.until_ms - question.since_ms, 0) / 1000 * self._dice.uniform(0.5, 1.1))
                await self._try(lambda: client.approve(run_id, call_id, by="ann"))
            case "approval" if name == "no":
                await self._try(lambda: client.deny(run_id, call_id, reason="too much", by="ann"))
            case "approval" if name == "other":
                await self._try(lambda: client.approve(run_id, call_id, arguments={"name": "changed"}, by="ann"))
            case "approval":
                await self._try(lambda: client.approve(run_id, call_id, by="ann"))
            case "input":
                if await self._try(lambda: client.answer(run_id, "many", call_id=call_id, by="ann"), InvalidInput):
                    raise AssertionError(f"call {call_id} asks for a number, and took a word")
                await self._try(lambda: client.answer(run_id, 7, call_id=call_id, by="ann"))
            case "signal":
                await self._try(lambda: client.signal(run_id, question.name, 7, signal_id=f"s-{call_id}", by="ann"))

    async def _try(self, say: Callable[[], Awaitable[object]], *refusals: type[Exception]) -> bool:
        with contextlib.suppress(*_TOO_LATE, *refusals):
            await self._insist(say)
            self.decisions += 1
            return True
        return False

    async def _disturb(self) -> None:
        """Steer those that are to be steered, and hold up somebody."""
        recent = self._planned[-60:]
        for planned in recent:
            if planned.shape is STEERED and planned.run_id not in self._steered and self._dice.random() < 0.1:
                self._steered.add(planned.run_id)
                # Without a token of its own it is not said again where nobody knows whether it was heard.
                with contextlib.suppress(*_TOO_LATE, StoreUnavailable):
                    await self._client.steer(planned.run_id, NOTED, by="ann")
        if recent and self._dice.random() < _HOLDS:
            self._begin(self._hold(self._dice.choice(recent).run_id))
        if self._dice.random() < _HOLDS_ALL:
            self._begin(self._hold_all())

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hold(self, run_id: str) -> None:
        if await self._try(lambda: self._client.pause(run_id, reason="wait", by="ann")):
            self.holds += 1
            await asyncio.sleep(self._dice.uniform(0, 0.5))
            await self._insist(lambda: self._client.resume(run_id, by="ann"))

    async def _hold_all(self) -> None:
        agent = self._dice.choice((None, "shop", "helper"))
        await self._insist(lambda: self._client.pause_all(agent=agent, reason="wait", by="ann"))
        self.holds += 1
        await asyncio.sleep(self._dice.uniform(0, 0.3))
        await self._insist(lambda: self._client.resume_all(agent=agent))
