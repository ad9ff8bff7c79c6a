"""A loop on the in-memory store with models and tools that a test drives by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq._ids import new_token
from agentq.events.model import ToolFailed, ToolFinished
from agentq.loop import Agent, Iteration, Loop, Outcome
from agentq.messages import Role, StopReason
from agentq.providers.base import Chunk, ModelRequest, ReplyEnd, TextChunk
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore
from agentq.testing import FakeClock
from agentq.testing._contract import events_of, new_run
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from agentq.events.model import Event
    from agentq.messages import Message, ToolResultPart
    from agentq.providers.base import Provider
    from agentq.runs import RunState
    from agentq.stores.base import (
        Appended,
        Claim,
        Commit,
        Committed,
        EventBatch,
        Lease,
        Released,
        Rest,
        StepRecord,
        Wakeup,
    )

LEASE_MS = 9_000


class HookedStore(MemoryStore):
    """Calls `before` with the name of every write by a lease; what that raises, the write raises."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.before: Callable[[str, Any], Awaitable[None]] | None = None
        self.writes: list[str] = []

    async def _hook(self, name: str, what: Any) -> None:
        if self.before is not None:
            await self.before(name, what)
        self.writes.append(name)

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Appended:
        await self._hook("journal", records)
        return await super().journal(lease, records, batch, using_tools=using_tools)

    async def commit(self, lease: Lease, commit: Commit, *, wake: Wakeup | None = None) -> Committed:
        await self._hook("commit", commit)
        return await super().commit(lease, commit, wake=wake)

    async def release(
        self, lease: Lease, batch: EventBatch, *, wake: Wakeup | None = None, rest: Rest | None = None
    ) -> Released:
        await self._hook("release", batch)
        return await super().release(lease, batch, wake=wake, rest=rest)


class NotedWakeups:
    """An executor that only takes notes: run ids and delays."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, float]] = []

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        self.woken.append((run_id, delay))


class SlowModel:
    """Says `before`, then waits for `go`, then says `after`. `left` tells that its stream was ended."""

    name = "slow"

    def __init__(self, before: Sequence[Any] = (), after: Sequence[Any] = ()) -> None:
        self.before = before
        self.after = after
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.left = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        try:
            for piece in self.before:
                yield TextChunk(piece) if isinstance(piece, str) else piece
            self.waiting.set()
            await self.go.wait()
            for piece in self.after:
                yield TextChunk(piece) if isinstance(piece, str) else piece
            yield ReplyEnd(StopReason.END)
        finally:
            self.left += 1


class Gate:
    """What a tool awaits: the test sees that it was entered, and lets it go on."""

    def __init__(self) -> None:
        self.entered = 0
        self.stopped = 0
        self.done = 0
        self._go = asyncio.Event()

    def open(self) -> None:
        self._go.set()

    async def wait(self, value: Any = "done") -> Any:
        self.entered += 1
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        self.done += 1
        return value


class Stage:
    """One agent, one run, and workers to put on it."""

    def __init__(self, model: Provider, *tools: Any, coalesce_ms: int = 0, **agent: Any) -> None:
        self.model = model
        self.store = HookedStore()
        self.executor = NotedWakeups()
        self.agent = Agent("calculator", tools=tools, model="mock", **agent)
        self.clock = FakeClock()
        self.settings = Settings(lease_ms=LEASE_MS, coalesce_ms=coalesce_ms)
        self.loop = Loop(
            {"calculator": self.agent},
            self.store,
            self.executor,
            self.settings,
            clock=self.clock,
            resolve_model=lambda name: (self.model, name),
        )
        self.run_id = ""

    async def enqueue(self, prompt: str = "Take 7 + 9.", **fields: Any) -> str:
        self.run_id = (await self.store.create(new_run(prompt, **fields))).run_id
        return self.run_id

    async def claim(self, owner: str = "worker-1") -> Claim:
        if not self.run_id:
            await self.enqueue()
        (claim,) = await self.store.claim([self.run_id], owner=owner, claim_id=new_token(), lease_ms=LEASE_MS)
        return claim

    async def begin(self, owner: str = "worker-1") -> tuple[Iteration, asyncio.Task[Outcome]]:
        """Claim the run and set an iteration going."""
        iteration = self.loop.begin(await self.claim(owner))
        return iteration, asyncio.create_task(iteration.run())

    async def advance(self, owner: str = "worker-1") -> Outcome:
        """One iteration from claim to commit."""
        return await self.loop.begin(await self.claim(owner)).run()

    async def play(self) -> RunState:
        """Advance until the run ends, waiting out every backoff."""
        if not self.run_id:
            await self.enqueue()
        while not (run := await self.store.read(self.run_id)).status.is_final:
            self.pass_time(max(run.not_before_ms / 1000 - self.now_s(), 0))
            await self.advance()
        return run

    def pass_time(self, seconds: float) -> None:
        """Put the store's clock forward."""
        clock = self.store._clock  # noqa: SLF001 - made by HookedStore
        assert isinstance(clock, FakeClock)
        clock.advance(seconds)

    def now_s(self) -> float:
        return self.store._clock.now_ms() / 1000  # noqa: SLF001 - as above

    async def lose_lease(self) -> Claim:
        """Let the lease expire and another worker take the run."""
        self.pass_time(LEASE_MS / 1000)
        return await self.claim("worker-2")

    async def read(self) -> RunState:
        return await self.store.read(self.run_id)

    async def messages(self) -> list[Message]:
        """The transcript after the prompt."""
        return list(await self.store.messages(self.run_id, start=1))

    async def results(self) -> list[ToolResultPart]:
        return [result for message in await self.messages() for result in message.tool_results]

    async def notes(self) -> list[str]:
        return [message.text for message in await self.messages() if message.role is Role.SYSTEM]

    async def events(self) -> list[Event]:
        """What a viewer sees who comes now."""
        return await events_of(self.store.stream, self.run_id)

    async def told(self, call: str) -> list[str]:
        """Types of the events about the calls of one tool."""
        return [event.type for event in await self.events() if getattr(event, "name", None) == call]

    async def ends_of_calls(self) -> list[tuple[str, str]]:
        return [
            (event.name, event.outcome if isinstance(event, ToolFailed) else "ok")
            for event in await self.events()
            if isinstance(event, ToolFinished | ToolFailed)
        ]


async def outcome_of(task: asyncio.Task[Outcome]) -> Outcome:
    """How an iteration ended; fails when it hangs."""
    await wait_until(task.done, message="the iteration ends")
    return task.result()


async def is_stuck(task: asyncio.Task[Any], turns: int = 50) -> bool:
    """Whether the task waits for something that only the test can give."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return not task.done()
