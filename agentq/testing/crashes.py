"""Crash tests of your own tools: what if the worker dies right after the card was charged?

    trial = await rehearse(agent, "Charge 5 euro.", model=model, crash=after_tool("charge"))
    assert trial.entered("charge") == 1

A rehearsal carries one run to its end in this process. At one point of it the worker dies, as by `kill -9`, is frozen
past its lease, or the run is cancelled; then another worker goes on. No Redis, no waiting: time is moved by hand.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agentq import _ids
from agentq.executors.local import LocalExecutor
from agentq.loop import Agent, Loop, settle_cancelled
from agentq.loop.answering import answer_to
from agentq.loop.finishing import output_of
from agentq.messages import user_message
from agentq.runs import RunState, Status
from agentq.settings import Settings
from agentq.steps import REPLY
from agentq.stores.base import NewRun
from agentq.stores.memory import MemoryStore
from agentq.testing._tools import changed_tools
from agentq.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentq.messages import Message, ToolResultPart
    from agentq.providers.base import Provider
    from agentq.stores.base import Commit, Committed, EventBatch, Lease, StepRecord, Store
    from agentq.tools.context import ToolContext
    from agentq.tools.function import Tool

Where = Literal["before_tool", "after_tool", "after_result", "after_reply", "before_commit", "after_commit"]
Happens = Literal["crash", "freeze", "cancel"]
_LEASE_MS = 9_000
_MAX_WORKERS = 50
_NO_ANSWER = object()


@dataclass(frozen=True, slots=True)
class Point:
    """A moment in a run, the `nth` of its kind. Made by the functions below, or taken from `Trial.points`."""

    where: Where
    tool: str = ""
    nth: int = 1

    def __str__(self) -> str:
        given = [repr(self.tool)] if self.tool else []
        return f"{self.where}({', '.join([*given, *([f'nth={self.nth}'] if self.nth > 1 else [])])})"


def before_tool(tool: str, nth: int = 1) -> Point:
    """The call stands in the ledger as started, and the tool has not been entered."""
    return Point("before_tool", tool, nth)


def after_tool(tool: str, nth: int = 1) -> Point:
    """The tool has returned, and nobody has heard of it."""
    return Point("after_tool", tool, nth)


def after_result(tool: str, nth: int = 1) -> Point:
    """The tool's result is stored, and the iteration is not committed.

    The last result of an iteration is stored by its commit where the call only read: there is no such point then.
    """
    return Point("after_result", tool, nth)


def after_reply(nth: int = 1) -> Point:
    """A reply of the model that calls tools is stored, and none of them has started."""
    return Point("after_reply", nth=nth)


def before_commit(nth: int = 1) -> Point:
    """The iteration is done, and not committed."""
    return Point("before_commit", nth=nth)


def after_commit(nth: int = 1) -> Point:
    """The iteration is committed, and its worker does not know."""
    return Point("after_commit", nth=nth)


class PointNotReached(AssertionError):
    """The run never came to the point where something was to happen."""


@dataclass(frozen=True)
class Trial:
    """What came of a rehearsal.

    `points` are those that the run came to, in order; of one without a fault they are all that a test can try.
    `workers` says how many it took, `calls` what the tools were entered with: name, idempotency key and attempt.
    """

    run: RunState
    messages: tuple[Message, ...]
    points: tuple[Point, ...]
    calls: tuple[tuple[str, str, int], ...]
    workers: int
    trace: tuple[str, ...] = field(repr=False)

    @property
    def status(self) -> Status:
        return self.run.status

    @property
    def output(self) -> str:
        """The text of the last reply."""
        return output_of(self.messages)

    @property
    def results(self) -> tuple[ToolResultPart, ...]:
        """The results of all calls, in order."""
        return tuple(result for message in self.messages for result in message.tool_results)

    def result(self, tool: str, nth: int = 1) -> ToolResultPart:
        """The result of the `nth` call of a tool. Raises LookupError when there is none."""
        found = [result for result in self.results if result.name == tool]
        if len(found) < nth:
            raise LookupError(f"{tool} has {len(found)} results\n{self}")
        return found[nth - 1]

    def entered(self, tool: str) -> int:
        """How often the tool was entered."""
        return sum(name == tool for name, *_ in self.calls)

    def keys(self, tool: str) -> tuple[str, ...]:
        """The idempotency keys that the tool was entered with, in order."""
        return tuple(key for name, key, _ in self.calls if name == tool)

    def __str__(self) -> str:
        return "\n".join([f"{self.status} after {self.workers} workers:", *(f"  {line}" for line in self.trace)])


async def rehearse(
    agent: Agent,
    prompt: str,
    *,
    model: Provider,
    crash: Point | None = None,
    freeze: Point | None = None,
    cancel: Point | None = None,
    answer: Any = _NO_ANSWER,
    redis_url: str | None = None,
) -> Trial:
    """Carry a run of `agent` to its end, with at most one fault: return what came of it.

    `crash`: at this point the worker dies. `freeze`: it stands still until another has carried the run to its end, and
    then goes on. `cancel`: the run is cancelled. `answer` is what a person says when the run asks what became of a
    call; without it, the rehearsal ends where the run waits. `redis_url` plays it in a real Redis, for tools that use
    `ctx.commit_with`; then a lease is 0.3 s of real time. A synchronous tool runs in a thread, which nobody can kill.

    Raises `PointNotReached` when the run never came to the point, and ValueError for more than one fault.
    """
    wanted: dict[Happens, Point | None] = {"crash": crash, "freeze": freeze, "cancel": cancel}
    faults = [(happens, point) for happens, point in wanted.items() if point is not None]
    if len(faults) > 1:
        raise ValueError("a rehearsal has one fault: crash, freeze or cancel")
    stage = _RedisStage(redis_url) if redis_url is not None else _Stage()
    try:
        rehearsal = _Rehearsal(stage, agent, model, faults[0] if faults else None, answer)
        return await rehearsal.play(prompt)
    finally:
        await stage.aclose()


class _Stage:
    """Where a rehearsal takes place: a store, and how time passes there."""

    lease_ms = _LEASE_MS

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store: Store = MemoryStore(self.clock)

    async def pass_time(self, ms: float) -> None:
        self.clock.advance(ms / 1000)

    async def aclose(self) -> None:
        """Nothing lasts."""


class _RedisStage(_Stage):
    lease_ms = 300

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        # Here, because tests without Redis need not import it.
        from agentq.wiring import redis_parts

        self._parts = redis_parts(Settings(redis_url=redis_url))
        self.store = self._parts.store

    async def pass_time(self, ms: float) -> None:
        self.clock.advance(ms / 1000)
        await asyncio.sleep(ms / 1000 + 0.02)

    async def aclose(self) -> None:
        await self._parts.aclose()


class _Rehearsal:
    def __init__(
        self, stage: _Stage, agent: Agent, model: Provider, fault: tuple[Happens, Point] | None, answer: Any
    ) -> None:
        self._stage = stage
        self._agent = dataclasses.replace(agent, tools=changed_tools(agent, self._watched))
        self._model = model
        self._fault = fault
        self._answer = answer
        self._counts: Counter[tuple[Where, str]] = Counter()
        self._points: list[Point] = []
        self._calls: list[tuple[str, str, int]] = []
        self.trace: list[str] = []
        self._workers = 0
        self._happened = False
        self._stopped: asyncio.Event | None = None
        self._thaw = asyncio.Event()
        self._cancel_here: Callable[[], None] = lambda: None
        self._run_id = _ids.new_run_id()

    async def play(self, prompt: str) -> Trial:
        store = self._stage.store
        await store.create(NewRun(self._run_id, self._agent.name, (user_message(prompt),)))
        frozen: asyncio.Task[None] | None = None
        while not (run := await self._ready()).status.is_final and run.status is not Status.WAITING:
            if self._workers >= _MAX_WORKERS:
                raise AssertionError(f"the run does not end with {_MAX_WORKERS} workers:\n" + "\n".join(self.trace))
            working, stopped = self._start_worker()
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                stopped.cancel()
                working.result()
                continue
            if self._fault is not None and self._fault[0] == "freeze":
                frozen = working
            else:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            await self._stage.pass_time(self._stage.lease_ms)
        if frozen is not None:
            self.trace.append("the frozen worker goes on")
            self._thaw.set()
            await frozen
        return await self._trial()

    async def _ready(self) -> RunState:
        """The run, when somebody can take it: after its back-off, and with what a person has to say."""
        store = self._stage.store
        run = await store.read(self._run_id)
        if run.status is Status.WAITING and run.question is not None and self._answer is not _NO_ANSWER:
            self.trace.append(f"a person answers {self._answer!r}")
            await store.answer(self._run_id, answer_to(run, run.question, self._answer))
            run = await store.read(self._run_id)
        if run.status is Status.QUEUED and run.not_before_ms:
            await self._stage.pass_time(max(run.not_before_ms - run.updated_ms, 0))
        return run

    def _start_worker(self) -> tuple[asyncio.Task[None], asyncio.Task[bool]]:
        self._workers += 1
        self._stopped = asyncio.Event()
        worker = f"worker-{self._workers}"
        settings = Settings(lease_ms=self._stage.lease_ms, coalesce_ms=0, max_recoveries=_MAX_WORKERS)
        store: Any = _Watched(self._stage.store, self, worker)
        loop = Loop(
            {self._agent.name: self._agent},
            store,
            LocalExecutor(),
            settings,
            clock=self._stage.clock,
            resolve_model=lambda name: (self._model, name),
        )
        return asyncio.create_task(self._work(loop, worker)), asyncio.create_task(self._stopped.wait())

    async def _work(self, loop: Loop, worker: str) -> None:
        """Carry the run on, iteration after iteration, until it rests or ends."""
        store = self._stage.store
        while True:
            claims = await store.claim(
                [self._run_id], owner=worker, claim_id=_ids.new_token(), lease_ms=self._stage.lease_ms
            )
            if not claims:
                return
            self.trace.append(f"{worker} takes the run")
            for claim in claims:
                if claim.run.is_cancel_requested:
                    await settle_cancelled(store, claim, loop.settings)
                else:
                    iteration = loop.begin(claim)
                    self._cancel_here = iteration.cancel
                    await iteration.run()

    async def come_to(self, where: Where, tool: str = "") -> None:
        """The run comes to a point; what is to happen there, happens."""
        self._counts[where, tool] += 1
        point = Point(where, tool, self._counts[where, tool])
        self._points.append(point)
        self.trace.append(str(point))
        if self._fault is None or self._happened or point != self._fault[1]:
            return
        self._happened = True
        if self._fault[0] == "cancel":
            self.trace.append("the run is cancelled")
            await self._stage.store.cancel(self._run_id, reason="rehearsed")
            self._cancel_here()
            return
        self.trace.append("the worker dies" if self._fault[0] == "crash" else "the worker stands still")
        assert self._stopped is not None  # noqa: S101 - a worker is at it
        self._stopped.set()
        # One that died never gets past this; its task is cancelled.
        await self._thaw.wait()

    def _watched(self, tool: Tool) -> Tool:
        """The tool with its points. A synchronous one runs in a thread of its own, as always."""
        watched: Tool = copy.copy(tool)
        function: Callable[..., Any] = tool.function

        async def entered(**arguments: Any) -> Any:
            await self.come_to("before_tool", tool.name)
            ctx = next((value for value in arguments.values() if hasattr(value, "idempotency_key")), None)
            self._note(tool.name, ctx)
            if tool.is_async:
                value = await function(**arguments)
            else:
                value = await asyncio.to_thread(function, **arguments)
            await self.come_to("after_tool", tool.name)
            return value

        watched.function = entered
        watched.is_async = True
        return watched

    def _note(self, tool: str, ctx: ToolContext | None) -> None:
        self._calls.append((tool, ctx.idempotency_key if ctx else "", ctx.attempt if ctx else 0))
        self.trace.append(f"{tool} is entered" + (f", attempt {ctx.attempt}" if ctx else ""))

    async def _trial(self) -> Trial:
        store = self._stage.store
        if self._fault is not None and not self._happened:
            came_to = ", ".join(map(str, self._points)) or "none"
            raise PointNotReached(f"the run never came to {self._fault[1]}; it came to: {came_to}")
        run, messages = await store.read(self._run_id), await store.messages(self._run_id)
        return Trial(run, messages, tuple(self._points), tuple(self._calls), self._workers, tuple(self.trace))


class _Watched:
    """A store as one worker has it: its writes are points."""

    def __init__(self, store: Store, rehearsal: _Rehearsal, worker: str) -> None:
        self._store = store
        self._rehearsal = rehearsal
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def journal(
        self, lease: Lease, records: Sequence[StepRecord], batch: EventBatch, *, using_tools: bool = False
    ) -> Any:
        appended = await self._refusable(self._store.journal(lease, records, batch, using_tools=using_tools))
        for record in records:
            if record.name == REPLY:
                await self._rehearsal.come_to("after_reply")
        for event in batch.events:
            if event.type in ("tool.finished", "tool.failed"):
                await self._rehearsal.come_to("after_result", event.name)
        return appended

    async def commit(self, lease: Lease, commit: Commit, *, wake: Any = None) -> Committed:
        await self._rehearsal.come_to("before_commit")
        committed: Committed = await self._refusable(self._store.commit(lease, commit, wake=wake))
        await self._rehearsal.come_to("after_commit")
        return committed

    async def _refusable(self, write: Awaitable[Any]) -> Any:
        try:
            return await write
        except Exception as error:
            self._rehearsal.trace.append(f"{self._worker} is refused: {type(error).__name__}")
            raise
