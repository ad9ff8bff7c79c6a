"""A run that people steer while its workers die: they allow and deny calls, signal, answer, send a message, pause."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from agentq import AsyncClient
from agentq.errors import AlreadyDecided, CancelRequested, NotWaiting, RunAlreadyFinished
from agentq.events.model import RunAnswered, RunPaused, RunResumed, RunSteered
from agentq.loop import Agent
from agentq.messages import Role, user_message
from agentq.runs import APPROVAL, INPUT, SIGNAL, TIMER, Status
from agentq.steps import PART, REPLY, read_call_step
from agentq.stores.base import Steer
from agentq.testing import ScriptedModel, call
from agentq.tools.context import ToolContext  # noqa: TC001 - read when the tools are made
from agentq.tools.function import Tool
from tests.stores.crash_parts import LEASE_MS, SWEEP_S, Facade, Play, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest
    from agentq.steps import Effect
    from agentq.stores.base import Store
    from tests.stores.crash_parts import Backend

OF_PEOPLE = ("decide", "signal", "steer", "pause", "resume", "cancel")
STEERED: tuple[Any, ...] = (
    ["Let me see. ", call("charge", at="a"), call("charge", at="b"), call("ship", at="c")],
    [call("ask", at="d")],
    "It is all done.",
)
IN_EUROS = "In euros."
# Refusals of words that come too late, once somebody has cancelled the run.
_TOO_LATE = (NotWaiting, AlreadyDecided, CancelRequested, RunAlreadyFinished)


class SteeredWorld(World):
    """Knows what was allowed, and which parts of which calls are journaled."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: set[str] = set()
        self.rested: set[str] = set()
        self.parts: set[str] = set()
        self.done: list[str] = []
        self.taken: set[str] = set()

    @property
    def tools(self) -> list[Tool[..., Any]]:
        async def charge(at: str, ctx: ToolContext) -> str:
            if ctx.call_id not in self.allowed:
                self.wrong.append(f"charge {at} was made, and nobody had allowed it")
            self.enter(ctx, "once")
            return f"charged {at}"

        async def ship(at: str, ctx: ToolContext) -> str:
            self.enter(ctx, "idempotent")
            packed = await ctx.step("pack", lambda: self.do(ctx, "pack", 0))
            by = await ctx.wait_for("packed", timeout=600)
            await ctx.sleep(1)
            return f"{at}: {packed}, {by}, {await ctx.step('load', lambda: self.do(ctx, 'load', 3))}"

        async def ask(at: str, ctx: ToolContext) -> str:
            self.enter(ctx, "none")
            return f"{at}: {await ctx.ask('How many?', {'type': 'integer'})}"

        def made(function: Any, effect: Effect, **options: Any) -> Tool[..., Any]:
            return Tool.from_function(function, description="Work.", effect=effect, **options)

        return [made(charge, "once", approval=True), made(ship, "idempotent"), made(ask, "none")]

    def enter(self, ctx: ToolContext, effect: Effect) -> None:
        self.effects[ctx.call_id] = effect
        if ctx.call_id in self.finished:
            self.wrong.append(f"{ctx.call_id} was finished and ran again")
        if self.entered[ctx.call_id] and effect == "once":
            self.wrong.append(f"{ctx.call_id} must run once and ran again")
        if self.cancelled and effect == "once":
            self.wrong.append(f"{ctx.call_id} has an effect and started after the cancel")
        self.entered[ctx.call_id] += 1

    def do(self, ctx: ToolContext, what: str, number: int) -> str:
        if sum(name.startswith(ctx.call_id + PART) for name in self.parts) > number:
            self.wrong.append(f"step {what} was journaled, and was done again")
        self.done.append(what)
        return what

    def saw(self, name: str, arguments: tuple[Any, ...]) -> None:
        super_records = arguments[1] if name == "journal" else ()
        for record in super_records:
            if PART in record.name:
                self.parts.add(record.name)
                for signal_id in record.takes:
                    if signal_id in self.taken and record.name not in self.parts:
                        self.wrong.append(f"signal {signal_id} was taken twice")
                    self.taken.add(signal_id)
            elif record.name == REPLY:
                self.reply_is_journaled = True
            elif read_call_step(record.value).result is not None:
                self.finished.add(record.name)
        if name == "decide" and b'"approved"' in arguments[1].record.value:
            self.allowed.add(arguments[1].call_id)
        elif name == "commit":
            super().saw(name, arguments)


class _Model(ScriptedModel):
    """What was sent into the run is no prompt: the script goes on where it was."""

    def __init__(self, world: SteeredWorld) -> None:
        super().__init__(STEERED)
        self._world = world

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        if self._world.reply_is_journaled:
            self._world.wrong.append("the model was asked again although its reply was journaled")
        heard = tuple(message for message in request.messages if message.text != IN_EUROS)
        async for chunk in super().stream(replace(request, messages=heard)):
            yield chunk
            await asyncio.sleep(0)


class SteeredPlay(Play):
    """The run, workers one after the other, and people, each call of whom `around` gets. One who dies is replaced."""

    world: SteeredWorld

    def __init__(self, backend: Backend, *, around: Any = None, max_recoveries: int = 5) -> None:
        super().__init__(backend, SteeredWorld(), max_recoveries=max_recoveries)
        self.model = cast("Any", _Model(self.world))
        self.agent = Agent("calculator", tools=self.world.tools, model="mock", retry_backoff_s=0)
        self.people = 0
        # Whoever holds it sees that nobody speaks, and no time passes.
        self.quiet = asyncio.Lock()
        # Whether a sweep of theirs has found the run.
        self._is_found = False
        self._around = around
        self._office: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await super().start()
        self._office = asyncio.create_task(self._work_in_office())

    async def is_over(self) -> bool:
        # Without people the run would wait for ever.
        if self._office is not None and self._office.done():
            self._office.result()
        return await super().is_over()

    # --- people

    async def _work_in_office(self) -> None:
        """Somebody does what is next; whoever dies of it is replaced by another one, who begins with that again."""
        steps = [
            self._pause,
            self._allow,
            self._resume,
            self._deny,
            self._signal,
            self._wait,
            self._steer,
            self._answer,
        ]
        while steps and not await self.is_over():
            self.people += 1
            person = asyncio.create_task(self._do(steps))
            if self._around is not None:
                self._around.die = person.cancel
            await asyncio.wait([person])
            if not person.cancelled():
                person.result()

    async def _do(self, steps: list[Any]) -> None:
        store = cast("Store", Facade(self.backend.store, self.world, self._around or _unharmed, OF_PEOPLE))
        client = AsyncClient(store=store, stream=self.backend.stream, executor=None)
        while steps and not await self.is_over():
            try:
                await steps[0](client, store)
            except _TOO_LATE:
                run = await self.read()
                # It may have been heard of whoever was here before, and the run has moved on.
                if self.people == 1 and not run.is_cancel_requested and not run.status.is_final:
                    raise
            steps.pop(0)

    async def _until(self, kind: str, call_index: int, iteration: int = 0) -> bool:
        """Wait until a call waits for this; False where it has waited for that already, or the run is about to end.

        Whoever replaces a person who died may come when a worker has long gone on with what was said last.
        """
        while True:
            run, journal = await self.read(), await self.backend.store.journaled(self.run_id)
            if run.status.is_final or run.is_cancel_requested or run.iteration > iteration:
                return False
            line = journal.get(f"{self.run_id}.{iteration + 1}.{call_index}")
            step = None if line is None else read_call_step(line)
            if step is not None and step.waits is not None and step.waits.kind == kind:
                return True
            if step is not None and (step.result is not None or (step.waits is not None and kind == SIGNAL)):
                return False
            await asyncio.sleep(0.0005)

    async def _pause(self, client: AsyncClient, store: Store) -> None:
        if await self._until(APPROVAL, 0):
            await client.pause(self.run_id, reason="wait", by="ann")

    async def _allow(self, client: AsyncClient, store: Store) -> None:
        await client.approve(self.run_id, f"{self.run_id}.1.0", by="ann")

    async def _resume(self, client: AsyncClient, store: Store) -> None:
        await client.resume(self.run_id, by="ann")

    async def _deny(self, client: AsyncClient, store: Store) -> None:
        if await self._until(APPROVAL, 1):
            await client.deny(self.run_id, f"{self.run_id}.1.1", reason="too much", by="ann")

    async def _signal(self, client: AsyncClient, store: Store) -> None:
        if await self._until(SIGNAL, 2):
            await client.signal(self.run_id, "packed", "ann", signal_id="s1", by="ann")

    async def _wait(self, client: AsyncClient, store: Store) -> None:
        # A worker that is about to rest has a clock of its own, which does not know how the time of tests passes.
        while await self._until(TIMER, 2):
            async with self.quiet:
                await self.backend.pass_time(SWEEP_S)
                await self._sweep()
            await asyncio.sleep(0.005)

    async def _steer(self, client: AsyncClient, store: Store) -> None:
        if await self._until(INPUT, 0, 1):
            steer = Steer("t1", user_message(IN_EUROS), (RunSteered(text=IN_EUROS),))
            await store.steer(self.run_id, steer)

    async def _answer(self, client: AsyncClient, store: Store) -> None:
        while await self._until(INPUT, 0, 1):
            # Whether it asks shows when it rests; a word that came sooner would be refused.
            if any(question.kind == INPUT for question in (await self.read()).questions):
                await client.answer(self.run_id, 7, by="ann")
                return
            await asyncio.sleep(0.0005)

    async def wait_for_sweep(self) -> None:
        """Let time pass until a sweep finds the run, unless it waits for people."""
        self._is_found = False
        for _ in range(int(3 * LEASE_MS / 1000 / SWEEP_S)):
            if self._is_found or (await self.read()).status not in (Status.RUNNING, Status.QUEUED):
                return
            await self.backend.pass_time(SWEEP_S)
            await self._sweep()
        run = await self.read()
        assert self._is_found or run.status not in (Status.RUNNING, Status.QUEUED), f"no sweep found the run: {run}"

    async def _sweep(self) -> None:
        swept = await self.backend.store.sweep(lease_ms=LEASE_MS)
        self._is_found = self._is_found or self.run_id in swept.to_wake

    async def close(self) -> None:
        """People have nothing more to do."""
        assert self._office is not None
        await asyncio.wait_for(self._office, 20)

    # --- what must hold

    async def check(self, *statuses: Status) -> None:
        await self.close()
        await super().check(*statuses)
        told = [event for event in self.live if isinstance(event, RunAnswered)]
        words = [event.answer for event in told]
        assert len({(event.call_id, event.answer) for event in told}) == len(words), f"said twice: {words}"
        assert not self.world.entered[f"{self.run_id}.1.1"], "a call was made that was denied, or not decided on"

    async def check_answer(self) -> None:
        await self.check(Status.COMPLETED)
        run = await self.read()
        assert (run.iteration, run.errors, run.recoveries, run.pause) == (3, 0, 0, None)
        messages = await self.backend.store.messages(self.run_id)
        assert [message.role for message in messages] == [
            Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.TOOL, Role.USER, Role.ASSISTANT,
        ]  # fmt: skip
        assert (messages[5].text, messages[-1].text) == (IN_EUROS, "It is all done.")
        charged, denied, shipped, asked = (each for message in messages for each in message.tool_results)
        assert charged.outcome == "unknown" or charged.content == "charged a"
        assert (denied.outcome, "too much" in denied.content) == ("error", True)
        assert shipped.content == "c: pack, ann, load"
        assert asked.content == "d: 7"
        kinds = [type(event) for event in self.live]
        assert kinds.count(RunSteered) == 1
        assert kinds.count(RunPaused) == kinds.count(RunResumed)
        words = sorted(event.answer for event in self.live if isinstance(event, RunAnswered))
        assert words == ["approved", "denied", "input", "signal"]
        # One commit for each iteration that brought something, whoever made it.
        assert len(self.world.commits) >= 3

    def check_work(self, crashes: int) -> None:
        assert self.world.entered[f"{self.run_id}.1.0"] <= 1
        assert len(self.model.requests) <= 3 + crashes
        assert self.world.done.count("pack") <= 1 + crashes
        assert self.world.done.count("load") <= 1 + crashes


async def _unharmed(name: str, carry_out: Any) -> Any:
    return await carry_out()
