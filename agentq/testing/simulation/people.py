"""Those outside: clients that start, cancel and await runs, and viewers who come, leave and come back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from agentq.client_async import AsyncClient
from agentq.errors import (
    IllegalTransition,
    NotFinished,
    NotWaiting,
    ResultTimeout,
    RunAlreadyFinished,
    RunError,
    RunFailed,
    SessionBusy,
    StoreUnavailable,
)
from agentq.runs import CALL_OUTCOME, WHEN_BUSY
from agentq.testing.simulation.operators import Operator
from agentq.testing.simulation.workers import SimulatedExecutor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from agentq.client_async import AsyncRun
    from agentq.events.model import Event
    from agentq.settings import Settings
    from agentq.stores.base import Store
    from agentq.testing.simulation.effects import Effects
    from agentq.testing.simulation.ledger import Ledger
    from agentq.testing.simulation.network import Network
    from agentq.testing.simulation.plans import Plan
    from agentq.testing.simulation.scheduling import Process

_AGAIN_S = 0.2
_RETRIES = 0.7


class SimulatedClient:
    """A web app with the real client. It starts its plans one by one, in `within_s` seconds, and tries again."""

    def __init__(
        self,
        network: Network,
        process: Process,
        settings: Settings,
        effects: Effects,
        plans: Sequence[Plan],
        sessions: Sequence[str],
        numbers: random.Random,
        *,
        within_s: float,
        blame: Callable[[str], None],
    ) -> None:
        remote = network.connect(process.main)
        self.process = process
        self._ledger: Ledger = network.server.ledger
        self._effects = effects
        self._client = AsyncClient(
            settings=settings,
            store=cast("Store", remote),
            stream=network.server.store.stream,
            executor=SimulatedExecutor(network, remote),
        )
        self.operator = Operator(self._client, process.name, self._ledger, numbers, blame)
        self._plans = plans
        self._sessions = sessions
        self._numbers = numbers
        self._within_s = within_s
        self._blame = blame

    def start(self) -> None:
        self.ended = self.process.main.start(self._work())

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for plan in self._plans:
                await asyncio.sleep(self._numbers.uniform(0, 2 * self._within_s / len(self._plans)))
                group.create_task(self._carry(plan, f"{self.process.name}-{plan.number}"))

    async def _carry(self, plan: Plan, key: str) -> None:
        numbers = self._numbers
        options: dict[str, Any] = {}
        if numbers.random() < 0.5:
            options["session_id"] = numbers.choice(self._sessions)
            options["when_busy"] = numbers.choice(("queue",) * 5 + WHEN_BUSY)
        if numbers.random() < 0.15 and options.get("when_busy", "queue") == "queue":
            options["delay"] = numbers.uniform(0.2, 4)
        if numbers.random() < 0.2:
            options |= {"concurrency_key": "tenant", "concurrency": 2}
        if numbers.random() < 0.6:
            options["idempotency_key"] = key
        run = await self._enqueue(plan, options)
        if run is None:
            return
        if numbers.random() < 0.3 and "idempotency_key" in options:
            again = await self._enqueue(plan, options)
            if options.get("when_busy") != "reject" and (again is None or again.id != run.id):
                self._blame(f"key {key} gave run {run.id} and then {again}")
        chance = numbers.random()
        if chance < 0.2:
            await asyncio.sleep(numbers.choice((0.0, 0.05, 0.5, 3.0)) * numbers.random())
            await self.cancel(run.id)
        elif chance < 0.7:
            await self._await(run)

    async def _enqueue(self, plan: Plan, options: dict[str, Any]) -> AsyncRun | None:
        """Start the run, unless its session is busy and it wants no other.

        Without a key nobody can know whether an attempt that failed has made one, so it is left.
        """
        while True:
            try:
                return await self._client.enqueue("agent", plan.prompt, **options)
            except SessionBusy:
                return None
            except StoreUnavailable:
                if "idempotency_key" not in options:
                    return None
            await asyncio.sleep(_AGAIN_S)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run, and try again while the store is away."""
        while True:
            try:
                status = await self._client.cancel(run_id, reason="enough")
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
                continue
            except RunAlreadyFinished:
                return
            known = self._ledger.runs[run_id]
            known.cancel_has_returned = True
            if known.cancelled_ms is None and not known.status.is_final:
                self._blame(f"run {run_id}: cancel returned {status}, and nothing was stored")
            return

    async def answer(self, run_id: str) -> None:
        """Say what became of the call that a run asks about, as far as that can be found out."""
        while True:
            try:
                question = (await self._client.read(run_id)).question
                if question is None or question.kind != CALL_OUTCOME:
                    return
                found = self._effects.truth(run_id, question.call_id)
                await self._client.answer(run_id, found, call_id=question.call_id)
            except NotWaiting:
                return
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _retry(self, run: AsyncRun) -> None:
        while True:
            try:
                await run.retry()
            except (NotFinished, IllegalTransition):
                return
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _await(self, run: AsyncRun) -> None:
        try:
            result = await run.result(timeout=self._numbers.uniform(0.1, 60))
        except RunFailed:
            # Runs of a session cannot be taken up again once the next one has started.
            if self._ledger.runs[run.id].new.session_id is None and self._numbers.random() < _RETRIES:
                await self._retry(run)
            return
        except (ResultTimeout, RunError, StoreUnavailable):
            return
        if result.messages[0].text != self._ledger.runs[run.id].new.prompt:
            self._blame(f"run {run.id} gave the result of another one")


class Viewer:
    """Watches one run, from wherever it came in to the end, through any number of visits. `seen` is what it saw."""

    def __init__(self, network: Network, process: Process, run_id: str, numbers: random.Random) -> None:
        self.process = process
        self.run_id = run_id
        self.first = 0
        self.seen: list[Event] = []
        self.has_seen_the_end = False
        self._stream = network.server.store.stream
        self._store = network.server.store
        self._numbers = numbers

    @property
    def is_done(self) -> bool:
        return self.has_seen_the_end or self.process.is_dead

    async def watch(self) -> None:
        numbers = self._numbers
        await asyncio.sleep(numbers.choice((0.0, 0.0, 0.5, 5.0)) * numbers.random())
        if numbers.random() < 0.2:
            # With a cursor that somebody gave it.
            self.first = (await self._store.read(self.run_id)).seq
        while not self.has_seen_the_end:
            self.has_seen_the_end = await self._visit(numbers.choice((1, 3, 10, 1_000_000)))
            await asyncio.sleep(numbers.choice((0.0, 0.1, 2.0)) * numbers.random())

    async def come_back(self) -> None:
        """See what came after the end: the run was taken up again."""
        if self.has_seen_the_end:
            await self._visit(1_000_000)

    async def _visit(self, events: int) -> bool:
        """See up to so many events; whether the run has ended."""
        after = self.seen[-1].seq if self.seen else self.first
        async with aclosing(cast("Any", self._stream.follow(self.run_id, after=after))) as stream:
            async for event in stream:
                self.seen.append(event)
                events -= 1
                if events <= 0:
                    return False
                if self._numbers.random() < 0.05:
                    await asyncio.sleep(self._numbers.random())
        return True
