"""What people and programs outside do to simulated runs: decide, answer, signal, steer, pause. Several at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentq.errors import (
    AlreadyDecided,
    InboxFull,
    InvalidInput,
    NotWaiting,
    RunAlreadyFinished,
    StoreUnavailable,
)
from agentq.testing.simulation.plans import CHANGED_BY, said_by
from agentq.testing.simulation.tools import word_of

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from agentq.client_async import AsyncClient
    from agentq.messages import ToolCallPart
    from agentq.testing.simulation.known import Known
    from agentq.testing.simulation.ledger import Ledger

_AGAIN_S = 0.2
# Of decisions: some come too late on purpose, some are given twice, or with words that do not fit.
_AT_THE_END, _TWICE, _WRONG = 0.3, 0.2, 0.2
_SCOPES: tuple[dict[str, str], ...] = ({}, {"agent": "agent"}, {"queue": "default"}, {"agent": "helper"})


class Operator:
    """Works with the client of one process. `blame` hears where it was told something that is not so."""

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        ledger: Ledger,
        numbers: random.Random,
        blame: Callable[[str], None],
    ) -> None:
        self._client = client
        self._name = name
        self._ledger = ledger
        self._numbers = numbers
        self._blame = blame
        self._said = 0

    async def attend(self, run_id: str, call_id: str, *, at_once: bool = False) -> None:
        """Say what a call waits for, now or later; perhaps just when its time is over."""
        known = self._ledger.runs[run_id]
        wait = known.waits[call_id]
        if not at_once:
            delay_s = self._numbers.choice((0.0, 0.0, 1.0, 5.0)) * self._numbers.random()
            if wait.until_ms and self._numbers.random() < _AT_THE_END:
                delay_s = (wait.until_ms - self._ledger.now_ms()) / 1000 + self._numbers.uniform(-0.3, 0.1)
            await asyncio.sleep(max(delay_s, 0))
        match wait.kind:
            case "approval":
                await self.decide(known, call_id)
            case "input":
                await self.answer(known, call_id)
            case "signal":
                await self.signal(run_id, wait.name)
            case "timer":
                """It goes on by itself."""

    async def decide(self, known: Known, call_id: str) -> None:
        """Allow a call, perhaps another one in its place, or deny it."""
        word = "denied" if self._numbers.random() < 0.3 else "approved"
        changed = await self._other_number(known, call_id) if word == "approved" else None

        async def say() -> None:
            client, run_id = self._client, known.run_id
            if word == "denied":
                await client.deny(run_id, call_id, reason="no", by=self._name)
            elif changed is None:
                await client.approve(run_id, call_id, by=self._name)
            else:
                await client.approve(run_id, call_id, arguments={"number": changed}, by=self._name)

        for _ in range(1 + (self._numbers.random() < _TWICE)):
            if not await self._insist(say, NotWaiting, AlreadyDecided):
                return
            stands = known.decided.get(call_id)
            if stands is None or (stands.decision, stands.by) != (word, self._name):
                self._blame(f"{self._name} was told that {call_id} is {word}, and it is {stands}")

    async def _other_number(self, known: Known, call_id: str) -> int | None:
        if self._numbers.random() < 0.7:
            return None
        call = self._find(known, call_id)
        return None if call is None else int(said_by(call)) + CHANGED_BY

    def _find(self, known: Known, call_id: str) -> ToolCallPart | None:
        return next((call for call in known.calls if call.call_id == call_id), None)

    async def answer(self, known: Known, call_id: str) -> None:
        """Answer what a call asks, perhaps with what the question does not take at first."""
        given = self._numbers.randint(1, 1_000_000)
        if self._numbers.random() < _WRONG:

            async def say_wrong() -> None:
                await self._client.answer(known.run_id, "many", call_id=call_id, by=self._name)

            if await self._insist(say_wrong, NotWaiting, AlreadyDecided, InvalidInput):
                self._blame(f"{call_id} asks for a number, and took another answer")

        async def say() -> None:
            await self._client.answer(known.run_id, given, call_id=call_id, by=self._name)

        if await self._insist(say, NotWaiting, AlreadyDecided):
            answers = [part.value for part in known.parts_of(call_id)]
            if answers != [given]:
                self._blame(f"{self._name} was told that {call_id} has the answer {given}, and it has {answers}")

    async def signal(self, run_id: str, name: str) -> None:
        """Signal something, now and then twice."""
        self._said += 1
        signal_id = f"{self._name}-{self._said}"

        async def say() -> None:
            await self._client.signal(run_id, name, signal_id, signal_id=signal_id, by=self._name)

        for _ in range(1 + (self._numbers.random() < _TWICE)):
            if await self._insist(say, RunAlreadyFinished) and signal_id not in self._ledger.runs[run_id].signals:
                self._blame(f"{self._name} was told that run {run_id} has signal {signal_id}, and it has not")

    async def signal_early(self, run_id: str) -> None:
        """Signal what a call of the run may come to wait for."""
        await asyncio.sleep(self._numbers.choice((0.0, 1.0, 5.0)) * self._numbers.random())
        await self.signal(run_id, word_of(self._numbers.randint(0, 1)))

    async def steer(self, run_id: str) -> None:
        """Send messages into a run, one after the other."""
        await asyncio.sleep(self._numbers.choice((0.0, 0.5, 5.0)) * self._numbers.random())
        for _ in range(self._numbers.choice((1, 1, 2))):
            self._said += 1
            text = f"{self._name} says {self._said}"
            try:
                await self._client.steer(run_id, text, by=self._name)
            except (RunAlreadyFinished, InboxFull, StoreUnavailable):
                return

    async def hold(self, run_id: str) -> None:
        """Pause a run, and resume it after a while."""
        await asyncio.sleep(self._numbers.choice((0.0, 0.5, 5.0)) * self._numbers.random())
        client = self._client
        if await self._insist(lambda: client.pause(run_id, reason="wait", by=self._name), RunAlreadyFinished):
            await asyncio.sleep(self._numbers.choice((0.0, 1.0, 10.0)) * self._numbers.random())
        await self.release(run_id)

    async def release(self, run_id: str) -> None:
        """Resume a run."""
        await self._insist(lambda: self._client.resume(run_id, by=self._name))

    async def hold_all(self) -> None:
        """Pause an agent, a queue or everything for a while."""
        scope = self._numbers.choice(_SCOPES)
        await self._insist(lambda: self._client.pause_all(**scope, reason="wait", by=self._name))
        await asyncio.sleep(self._numbers.uniform(0, 5))
        await self._insist(lambda: self._client.resume_all(**scope))

    async def release_all(self) -> None:
        """Resume whatever is paused as a whole."""
        for scope in _SCOPES:
            await self._insist(lambda scope=scope: self._client.resume_all(**scope))  # type: ignore[misc]

    async def _insist(self, say: Callable[[], Awaitable[object]], *refusals: type[Exception]) -> bool:
        """Try again while the store is away; whether it was not refused."""
        while True:
            try:
                await say()
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
            except refusals:
                return False
            else:
                return True
