"""Workers that die, stutter or are replaced at any call to their store, and what must hold however they do."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from agentq import _json
from agentq._ids import new_token
from agentq._redis.connection import Connection
from agentq.attachments import File
from agentq.errors import ProviderError, StoreUnavailable
from agentq.events.model import AttemptReset, Event, RunRecovered, TextDelta
from agentq.loop import Agent, Loop
from agentq.messages import NoteKind, Role, unanswered_calls
from agentq.runs import RunState, Status
from agentq.settings import Settings
from agentq.steps import REPLY
from agentq.stores.memory import MemoryStore
from agentq.stores.redis import RedisStore
from agentq.testing import FakeClock, ScriptedModel, call
from agentq.testing._contract import events_of, new_run
from agentq.testing.fake_redis import FakeConnection
from agentq.tools.context import ToolContext  # noqa: TC001 - read when the tools are made
from agentq.tools.function import Tool
from tests.stores.redis_parts import TimedParts, timed_script
from tests.unit._loop import NotedWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from agentq.events.stream import EventStream
    from agentq.loop import Iteration
    from agentq.providers.base import Chunk, ModelRequest, Provider
    from agentq.steps import Effect
    from agentq.stores.base import Store

LEASE_MS = 3_000
# As often as workers sweep.
SWEEP_S = 0.5
MUTATING = ("claim", "create", "journal", "commit", "release")
BUSY = ProviderError("busy", status=503)
SCRIPT: tuple[Any, ...] = (
    ["Let me see. ", call("look", at="a"), call("look", at="b"), call("book", at="c"), call("charge", at="d")],
    BUSY,
    [call("charge", at="e"), call("look", at="f")],
    "It is all done.",
)
# Results that come with a file.
WITH_FILES = ("look a", "book c")
EFFECTS: dict[str, Effect] = {"look": "none", "book": "idempotent", "charge": "once"}


class Backend(Protocol):
    """A kind of store. Each worker has a store of its own on the same data, as each process has."""

    @property
    def store(self) -> Store: ...

    @property
    def stream(self) -> EventStream: ...

    def worker_store(self) -> Store: ...

    async def pass_time(self, seconds: float) -> None: ...


class MemoryBackend:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.stream = self.store.stream

    def worker_store(self) -> MemoryStore:
        return self.store

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class RedisBackend:
    def __init__(self, parts: TimedParts) -> None:
        self.parts = parts
        self.store = parts.store
        self.stream = parts.stream
        self.pass_time = parts.pass_time

    def worker_store(self) -> RedisStore:
        # What a worker keeps of transcripts dies with it.
        return RedisStore(self.parts.connection, hub=self.parts.hub, scripts=timed_script)


@asynccontextmanager
async def backend_of(kind: str, redis_url: str | None = None) -> AsyncIterator[Backend]:
    """A backend of the kind: memory, fake or real."""
    if kind == "memory":
        yield MemoryBackend()
        return
    parts = TimedParts(Connection(redis_url) if redis_url else FakeConnection())
    try:
        yield RedisBackend(parts)
    finally:
        await parts.aclose()


class World:
    """What really happened: which tools ran how often, what was journaled, and what must not have happened."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()
        self.finished: set[str] = set()
        self.effects: dict[str, Effect] = {}
        self.cancelled = False
        self.reply_is_journaled = False
        self.wrong: list[str] = []
        self.commits: list[int] = []

    @property
    def tools(self) -> list[Tool[..., Any]]:
        return [self._tool(name, effect) for name, effect in EFFECTS.items()]

    def _tool(self, name: str, effect: Effect) -> Tool[..., Any]:
        async def work(at: str, ctx: ToolContext) -> Any:
            call_id = ctx.call_id
            self.effects[call_id] = effect
            if call_id in self.finished:
                self.wrong.append(f"{name} {at} was finished and ran again")
            if self.entered[call_id] and effect == "once":
                self.wrong.append(f"{name} {at} must run once and ran again")
            if self.cancelled and effect != "none":
                self.wrong.append(f"{name} {at} has an effect and started after the cancel")
            self.entered[call_id] += 1
            await ctx.progress(f"at {at}")
            await asyncio.sleep(0.001)
            text = f"{name} {at}"
            return [text, File(text.encode(), name="work.txt")] if text in WITH_FILES else text

        return Tool.from_function(work, name=name, description="Work.", effect=effect)

    def saw(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Take note of a call that the store has carried out."""
        if name == "journal":
            for record in arguments[1]:
                if record.name == REPLY:
                    self.reply_is_journaled = True
                elif _json.loads(record.value).get("result"):
                    self.finished.add(record.name)
        elif name == "commit":
            lease = arguments[0]
            if lease.fence not in self.commits:
                self.commits.append(lease.fence)
            self.reply_is_journaled = False


class WatchedModel(ScriptedModel):
    """Gives its reply piece by piece, slowly enough for each to be told on its own."""

    def __init__(self, world: World) -> None:
        super().__init__(SCRIPT)
        self._world = world

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        if self._world.reply_is_journaled:
            self._world.wrong.append("the model was asked again although its reply was journaled")
        async for chunk in super().stream(request):
            yield chunk
            await asyncio.sleep(0.001)


class Facade:
    """A worker's way to the store. `around` gets each `mutating` call, and the world sees what was carried out."""

    def __init__(self, store: Store, world: World, around: Any, mutating: Collection[str] = MUTATING) -> None:
        self._store = store
        self._world = world
        self._around = around
        self._mutating = mutating

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._call, name, method) if name in self._mutating else method

    async def _call(self, name: str, method: Any, *arguments: Any, **named: Any) -> Any:
        async def sent() -> Any:
            answer = await method(*arguments, **named)
            self._world.saw(name, arguments)
            return answer

        async def carry_out() -> Any:
            # What is on its way when the worker dies is carried out all the same.
            return await asyncio.shield(sent())

        return await self._around(name, carry_out)


class Killer:
    """Kills a worker before or after its `number`-th mutating call: from then on nothing of it is heard."""

    def __init__(self, number: int, when: str) -> None:
        self.number = number
        self.when = when
        self.calls = 0
        self.fired = False
        self.die: Callable[[], object] = lambda: None

    async def __call__(self, name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        if self.fired:
            return await asyncio.Future()
        self.calls += 1
        if self.calls != self.number:
            return await carry_out()
        self.fired = True
        if self.when == "after":
            await carry_out()
        self.die()
        return await asyncio.Future()


async def unharmed(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
    """A call that comes through."""
    return await carry_out()


class Away:
    """A Redis that is away at every call of so many, but for claims; with `carried_out` only its reply is lost."""

    def __init__(self, *, carried_out: bool, every: int) -> None:
        self._carried_out = carried_out
        self._every = every
        self._attempts = itertools.count()

    async def __call__(self, name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
        if name == "claim" or next(self._attempts) % self._every:
            return await carry_out()
        if self._carried_out:
            await carry_out()
        raise StoreUnavailable


class Play:
    """One run carried to its end by one worker after the other, and the viewer who watched it all."""

    def __init__(self, backend: Backend, world: World, *, max_recoveries: int = 5) -> None:
        self.backend = backend
        self.world = world
        self.model = WatchedModel(world)
        self.agent = Agent("calculator", tools=world.tools, model="mock", retry_backoff_s=0)
        self.settings = Settings(lease_ms=LEASE_MS, coalesce_ms=0, max_recoveries=max_recoveries)
        self.run_id = ""
        self.workers = 0
        self.iteration: Iteration | None = None
        self.live: list[Event] = []
        self._viewer: asyncio.Task[None] | None = None

    @property
    def agents(self) -> dict[str, Agent]:
        return {"calculator": self.agent}

    def provider(self, name: str) -> tuple[Provider, str]:
        return self.model, name

    async def start(self) -> None:
        self.run_id = (await self.backend.store.create(new_run("Do it all."))).run_id
        self._viewer = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        self.live.extend([event async for event in self.backend.stream.follow(self.run_id)])

    async def work(self, around: Any, killer: Killer | None = None) -> bool:
        """A new worker advances the run until the run ends or the worker dies; whether it died."""
        killer = around if isinstance(around, Killer) else killer
        self.workers += 1
        store = cast("Store", Facade(self.backend.worker_store(), self.world, around))
        loop = Loop(
            self.agents,
            store,
            NotedWakeups(),
            self.settings,
            resolve_model=self.provider,
        )
        task = asyncio.create_task(self._advance(loop, store, f"worker-{self.workers}"))
        if killer is not None:
            killer.die = task.cancel
        await asyncio.wait([task])
        # The writer of an iteration that was killed ends in its own time.
        await asyncio.gather(
            *(left for left in asyncio.all_tasks() if left.get_name() == "agentq-writer"), return_exceptions=True
        )
        if task.cancelled():
            return True
        task.result()
        return False

    async def _advance(self, loop: Loop, store: Store, owner: str) -> None:
        while not await self.is_over():
            for claim in await store.claim([self.run_id], owner=owner, claim_id=new_token(), lease_ms=LEASE_MS):
                self.iteration = loop.begin(claim)
                await self.iteration.run()
            # Another worker may hold the run.
            await asyncio.sleep(0.0005)

    async def read(self) -> RunState:
        return await self.backend.store.read(self.run_id)

    async def is_over(self) -> bool:
        return (await self.read()).status.is_final

    async def wait_for_sweep(self) -> None:
        """Let time pass until a sweep finds the run; the promise is that one does (P1)."""
        for _ in range(int(3 * LEASE_MS / 1000 / SWEEP_S)):
            await self.backend.pass_time(SWEEP_S)
            swept = await self.backend.store.sweep(lease_ms=LEASE_MS)
            if self.run_id in swept.to_wake:
                return
        raise AssertionError(f"no sweep found the run: {await self.read()}")

    async def is_replaced_at(self, number: int, *, within_s: float, holds_all: bool = False) -> bool:
        """Hold a worker up at its call `number`, with `holds_all` at all from there on; have another one take over, and
        let the first go on somewhere in the middle of what that does. Says whether there was such a call.
        """
        frozen, thaw, calls = asyncio.Event(), asyncio.Event(), itertools.count(1)

        async def freeze(name: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
            this = next(calls)
            if this == number or (holds_all and this > number):
                frozen.set()
                await thaw.wait()
            return await carry_out()

        zombie = asyncio.create_task(self.work(freeze))
        freezing = asyncio.create_task(frozen.wait())
        await asyncio.wait([zombie, freezing], return_when=asyncio.FIRST_COMPLETED)
        if not frozen.is_set():
            freezing.cancel()
            return False
        await self.wait_for_sweep()
        survivor = asyncio.create_task(self.work(unharmed))
        await asyncio.sleep(random.Random(number).random() * within_s)
        thaw.set()
        assert not any(await asyncio.gather(zombie, survivor))
        return True

    async def until_final(self, arounds: Callable[[int], Any]) -> None:
        """Put worker after worker on the run; `arounds` says what befalls each, counted from 1."""
        while not await self.is_over():
            assert self.workers < 100, f"the run never ends: {await self.read()}"
            if await self.work(arounds(self.workers + 1)) and not await self.is_over():
                await self.wait_for_sweep()

    @property
    def takeovers(self) -> int:
        """How often the run was taken over from a worker that had let its lease expire, as the viewer was told."""
        return sum(isinstance(event, RunRecovered) for event in self.live)

    # --- what must hold

    async def check(self, *statuses: Status) -> None:
        """The promises that hold at the end of any run."""
        assert self.world.wrong == []
        run = await self.read()
        assert run.status in statuses, run
        messages = await self.backend.store.messages(self.run_id)
        assert unanswered_calls(messages) == ()
        assert len(messages) == run.message_count
        await self.check_events()

    async def check_answer(self) -> None:
        """The run completed, and its transcript is the one that a run without any fault has."""
        await self.check(Status.COMPLETED)
        run = await self.read()
        assert (run.iteration, run.turn, run.errors, run.recoveries) == (3, 3, 0, 0)
        _, first, results, note, second, more, answer = await self.backend.store.messages(self.run_id)
        assert (first.text, note.note, answer.text) == ("Let me see. ", NoteKind.PROVIDER_ERROR, "It is all done.")
        assert (len(first.tool_calls), len(second.tool_calls)) == (4, 2)
        seen = [result for message in (results, more) for result in message.tool_results]
        expected = ["look a", "look b", "book c", "charge d", "charge e", "look f"]
        for words, result in zip(expected, seen, strict=True):
            if result.outcome == "ok":
                assert result.content == words
                assert bool(result.files) == (words in WITH_FILES)
                for file in result.files:
                    assert await self.backend.store.file(self.run_id, file.digest or "") == words.encode()
                assert self.world.entered[result.call_id] >= 1
            else:
                # Nobody can know; and it was not tried again.
                assert (result.name, result.outcome) == ("charge", "unknown")
        # One commit for each iteration, whoever made it.
        assert len(self.world.commits) == 4

    def check_work(self, crashes: int) -> None:
        """A crash repeats at most what was running, and what must not be repeated never."""
        for call_id, times in self.world.entered.items():
            assert times <= (1 if self.world.effects[call_id] == "once" else 1 + crashes)
        assert len(self.model.requests) <= 4 + crashes

    async def check_events(self) -> None:
        """Every viewer sees the same numbers, once and in order; only voided pieces are spared those who come late."""
        assert self._viewer is not None
        await asyncio.wait_for(self._viewer, 20)
        live = self.live
        voided = {
            number for event in live if isinstance(event, AttemptReset) for number in range(event.first, event.last + 1)
        }
        numbers = [event.seq for event in live]
        assert numbers == sorted(set(numbers))
        # A viewer who was not quick enough for a piece that was voided is spared it, and no other number.
        assert set(range(1, numbers[-1])) - set(numbers) <= voided
        whole = [event for event in live if not (isinstance(event, TextDelta) and event.seq in voided)]
        late = await asyncio.gather(
            *(events_of(self.backend.stream, self.run_id, after=after) for after in range(numbers[-1] + 1))
        )
        for after, seen in enumerate(late):
            assert seen == [event for event in whole if event.seq > after], f"after {after}"
        messages = await self.backend.store.messages(self.run_id)
        told = "".join(event.text for event in whole if isinstance(event, TextDelta))
        assert told == "".join(message.text for message in messages if message.role is Role.ASSISTANT)
