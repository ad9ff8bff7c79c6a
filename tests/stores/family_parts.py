"""A run whose calls are runs of their own, workers that die while these are under way, and what must hold then."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq._ids import child_run_id, new_run_id, new_token
from agentq.errors import RunAlreadyFinished
from agentq.loop import Agent
from agentq.messages import FilePart, NoteKind, Role, unanswered_calls
from agentq.runs import Status
from agentq.steps import REPLY
from agentq.stores.filters import RunFilter
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import new_run
from agentq.tools.context import ToolContext  # noqa: TC001 - read when the tools are made
from agentq.tools.function import Tool
from agentq.tools.results import ToolResult
from tests.stores.crash_parts import LEASE_MS, Play, RedisBackend, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.loop import Iteration, Loop
    from agentq.messages import ToolResultPart
    from agentq.providers.base import Chunk, ModelRequest, Provider
    from agentq.runs import RunState
    from agentq.steps import Effect
    from agentq.stores.base import Store
    from agentq.stores.values import Scope
    from tests.stores.crash_parts import Backend

PICTURE = b"\x89PNG\r\n\x1a\n"
PROMPTS = ("first", "second")
PARENT: tuple[Any, ...] = (
    [
        "Let me ask. ",
        call("draw", at="a"),
        *(call("researcher", prompt=prompt) for prompt in PROMPTS),
        call("count", at="b"),
    ],
    [call("count", at="c"), call("draw", at="d")],
    "It is all done.",
)
COUNTS = 2


class FamilyWorld(World):
    """Knows of each run whether its reply stands in the journal, and what its tools did."""

    def __init__(self) -> None:
        super().__init__()
        self.has_reply: set[str] = set()
        self.committed: dict[str, list[int]] = defaultdict(list)
        self.cancelled_runs: set[str] = set()
        self.announced: set[str] = set()

    @property
    def tools(self) -> list[Tool[..., Any]]:
        return [self.count, self.draw]

    def enter(self, ctx: ToolContext, at: str, effect: Effect) -> None:
        if ctx.call_id in self.finished:
            self.wrong.append(f"{at} of {ctx.run_id} was finished and ran again")
        if effect != "none" and ctx.call_id not in self.announced:
            self.wrong.append(f"{at} of {ctx.run_id} has an effect and was not announced")
        self.entered[ctx.call_id] += 1

    @property
    def count(self) -> Tool[..., Any]:
        async def count(at: str, ctx: ToolContext) -> str:
            self.enter(ctx, at, "idempotent")
            ctx.state["n"] = ctx.state.get("n", 0) + 1
            if ctx.session_id is not None:
                ctx.state.session["n"] = ctx.state.session.get("n", 0) + 1
            # Runs that go on beside each other do not count together.
            name = f"n of {ctx.run_id}"
            ctx.state.user[name] = ctx.state.user.get(name, 0) + 1
            return f"counted {ctx.state['n']}"

        return Tool.from_function(count, name="count", description="Count.", effect="idempotent")

    @property
    def draw(self) -> Tool[..., Any]:
        async def draw(at: str, ctx: ToolContext) -> ToolResult:
            self.enter(ctx, at, "none")
            return ToolResult(f"drawn {at}", files=[PICTURE + at.encode()], data={"at": at})

        return Tool.from_function(draw, name="draw", description="Draw.", effect="none")

    def saw(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "journal":
            for record in arguments[1]:
                if record.name == REPLY:
                    self.has_reply.add(arguments[0].run_id)
                elif _json.loads(record.value).get("result"):
                    self.finished.add(record.name)
                elif record.starts_effect:
                    # Which is when a call counts as started.
                    if arguments[0].run_id in self.cancelled_runs:
                        self.wrong.append(f"{record.name} started after the cancel")
                    self.announced.add(record.name)
        elif name == "commit":
            lease = arguments[0]
            if lease.fence not in self.committed[lease.run_id]:
                self.committed[lease.run_id].append(lease.fence)
            self.has_reply.discard(lease.run_id)


class _Model(ScriptedModel):
    """Minds that nobody asks for a reply that is journaled."""

    def __init__(self, world: FamilyWorld, replies: Any) -> None:
        super().__init__(replies)
        self._world = world

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        if request.run_id in self._world.has_reply:
            self._world.wrong.append(f"the model of {request.run_id} was asked again although its reply was journaled")
        async for chunk in super().stream(request):
            yield chunk


class FamilyPlay(Play):
    """A parent, its two children, and workers that carry all of them on at once."""

    def __init__(self, backend: Backend, *, max_recoveries: int = 5) -> None:
        self.world: FamilyWorld
        super().__init__(backend, FamilyWorld(), max_recoveries=max_recoveries)
        world = self.world
        researcher = Agent("researcher", model="researcher", tools=world.tools, retry_backoff_s=0)
        ask = researcher.as_tool(description="Find out.")
        writer = Agent("writer", model="writer", tools=[ask, *world.tools], retry_backoff_s=0)
        self.family_agents = {"writer": writer, "researcher": researcher}
        child: tuple[Any, ...] = (
            [call("count", at="x"), call("draw", at="y")],
            call("count", at="z"),
            lambda request: f"about the {request.messages[0].text}",
        )
        self.models = {"writer": _Model(world, PARENT), "researcher": _Model(world, child)}
        self.user_id = ""
        self.children: tuple[str, ...] = ()
        self.begun: dict[str, Iteration] = {}

    @property
    def agents(self) -> dict[str, Agent]:
        return self.family_agents

    def provider(self, name: str) -> tuple[Provider, str]:
        return self.models[name], name

    async def start(self) -> None:
        # The store is the same for many plays.
        self.user_id = new_run_id()
        new = new_run("Do it all.", agent="writer", session_id=f"of {self.user_id}", user_id=self.user_id)
        self.run_id = (await self.backend.store.create(new)).run_id
        self.children = tuple(child_run_id(f"{self.run_id}.1.{index}") for index in (1, 2))
        self._viewer = asyncio.create_task(self._watch())

    async def _advance(self, loop: Loop, store: Store, owner: str) -> None:
        """Advance whatever can be advanced, each run in a task of its own."""
        busy: dict[str, asyncio.Task[Any]] = {}
        async with asyncio.TaskGroup() as group:
            while free := await self.look():
                busy = {run_id: task for run_id, task in busy.items() if not task.done()}
                wanted = [run_id for run_id in free if run_id not in busy]
                claims = (
                    await store.claim(wanted, owner=owner, claim_id=new_token(), lease_ms=LEASE_MS) if wanted else ()
                )
                for claim in claims:
                    self.iteration = loop.begin(claim)
                    self.begun[claim.lease.run_id] = self.iteration
                    busy[claim.lease.run_id] = group.create_task(self.iteration.run())
                await asyncio.sleep(0.0005)

    async def cancel(self) -> None:
        """Cancel the parent, and with it whatever it has started."""
        await self._cancel(self.run_id, {self.run_id, *self.children})

    async def has_child(self) -> bool:
        """Whether the first child is there and has not ended."""
        child, *others = await self.family()
        return bool(others) and child.run_id == self.children[0] and not child.status.is_final

    async def cancel_child(self) -> None:
        """Cancel the first child alone."""
        await self._cancel(self.children[0], {self.children[0]})

    async def _cancel(self, run_id: str, ends: set[str]) -> None:
        async def sent() -> None:
            with contextlib.suppress(RunAlreadyFinished):
                await self.backend.store.cancel(run_id, reason="enough")
                self.world.cancelled_runs |= ends

        # Whoever dies meanwhile is not who cancels.
        await asyncio.shield(sent())

    async def family(self) -> list[RunState]:
        """The children that there are, then the parent: what is read later is not older."""
        there = await self.backend.store.list(RunFilter(user_id=self.user_id))
        known = {state.run_id for state in there}
        assert known <= {self.run_id, *self.children}, f"a run that nobody asked for: {known}"
        return [await self.backend.store.read(run_id) for run_id in (*self.children, self.run_id) if run_id in known]

    async def look(self) -> list[str]:
        """Runs that a worker may take or has, if any run is left; empty once all have ended."""
        *children, parent = await self.family()
        if parent.status is Status.WAITING and all(child.status.is_final for child in children):
            self.world.wrong.append(f"the parent waits although its children have ended: {parent.question}")
            raise AssertionError(self.world.wrong)
        left = [state for state in (*children, parent) if not state.status.is_final]
        return [state.run_id for state in left if state.status is not Status.WAITING] or [
            state.run_id for state in left
        ]

    async def is_over(self) -> bool:
        return all(state.status.is_final for state in await self.family())

    async def wait_for_sweep(self) -> None:
        """Let time pass until sweeps have found every run that nobody holds (P1)."""
        lost = {state.run_id for state in await self.family() if state.status in (Status.QUEUED, Status.RUNNING)}
        for _ in range(int(3 * LEASE_MS / 1000 / 0.5)):
            await self.backend.pass_time(0.5)
            lost -= set((await self.backend.store.sweep(lease_ms=LEASE_MS)).to_wake)
            if not lost:
                return
        raise AssertionError(f"no sweep found {lost}: {await self.family()}")

    # --- what must hold

    async def check(self, *statuses: Status) -> None:
        """The promises that hold at the end of any family."""
        assert self.world.wrong == [], self.world.wrong
        *children, parent = await self.family()
        assert parent.status in statuses, parent
        for state in (*children, parent):
            assert state.status.is_final, state
            messages = await self.backend.store.messages(state.run_id)
            assert unanswered_calls(messages) == ()
            assert len(messages) == state.message_count
            await self._check_counts(state)
        await self.check_events()
        await self._check_keys()

    async def _check_counts(self, state: RunState) -> None:
        """What a tool kept stands there exactly as often as the transcript says that it ran."""
        messages = await self.backend.store.messages(state.run_id)
        counted = [
            result.content
            for message in messages
            for result in message.tool_results
            if (result.name, result.outcome) == ("count", "ok")
        ]
        assert counted == [f"counted {number}" for number in range(1, len(counted) + 1)]
        number = str(len(counted)).encode() if counted else None
        scopes: list[tuple[Scope, str, str]] = [
            ("run", state.run_id, "n"),
            ("user", self.user_id, f"n of {state.run_id}"),
        ]
        if state.session_id is not None:
            scopes.append(("session", state.session_id, "n"))
        for scope, of, name in scopes:
            assert (await self.backend.store.values(scope, of)).get(name) == number, (scope, state)

    async def _check_keys(self) -> None:
        """Nothing is kept for ever but what all runs share (P11)."""
        if not isinstance(self.backend, RedisBackend):
            return
        run = self.backend.parts.store.pipeline.execute
        for raw in await run("KEYS", "*"):
            key = raw.decode()
            if not key.startswith(("agentq:runs", "agentq:sessions", "agentq:expiring", "test:")):
                assert await run("PTTL", key) > 0, f"{key} has no time to live"

    async def check_answer(self) -> None:
        """All completed, and the transcripts are those that runs without any fault have."""
        await self.check(Status.COMPLETED)
        *children, parent = await self.family()
        assert [child.status for child in children] == [Status.COMPLETED] * 2
        for state in (*children, parent):
            assert (state.iteration, state.turn, state.errors, state.recoveries) == (3, 3, 0, 0), state
            # One commit for each iteration, whoever made it.
            assert len(self.world.committed[state.run_id]) == 3
            messages = await self.backend.store.messages(state.run_id)
            assert [each.note for each in messages if each.role is Role.SYSTEM] == [], NoteKind
        assert await self.results(self.run_id) == [
            ("draw", "drawn a"),
            *(("researcher", f"about the {prompt}") for prompt in PROMPTS),
            ("count", "counted 1"),
            ("count", "counted 2"),
            ("draw", "drawn d"),
        ]
        for child in self.children:
            assert await self.results(child) == [("count", "counted 1"), ("draw", "drawn y"), ("count", "counted 2")]

    async def told_of(self, name: str) -> list[ToolResultPart]:
        """What the parent was told of its calls of this tool."""
        messages = await self.backend.store.messages(self.run_id)
        return [result for message in messages for result in message.tool_results if result.name == name]

    async def results(self, run_id: str) -> list[tuple[str, str]]:
        """What calls came to. Each file that a result names is there."""
        found = []
        for message in await self.backend.store.messages(run_id):
            for result in message.tool_results:
                assert result.outcome == "ok", result
                found.append((result.name, result.content))
                assert len(result.files) == (result.name == "draw")
                for part in result.files:
                    assert isinstance(part, FilePart)
                    at = result.content.rpartition(" ")[2].encode()
                    assert await self.backend.store.file(run_id, part.digest or "") == PICTURE + at
        return found

    def check_work(self, crashes: int) -> None:
        """A crash repeats at most what was running, in each run that was under way."""
        assert max(self.world.entered.values()) <= 1 + crashes
        assert len(self.models["writer"].requests) <= 3 + crashes
        assert len(self.models["researcher"].requests) <= 2 * (3 + crashes)
