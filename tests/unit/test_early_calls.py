"""Calls that only read start while the model still streams; nobody hears of them before the reply is journaled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentq import ToolContext, _json, tool
from agentq.errors import ProviderError
from agentq.events.model import ReplyCompleted, ToolCalled, ToolFinished, ToolProgress
from agentq.messages import StopReason, unanswered_calls
from agentq.providers.base import ReplyEnd, Retried, ToolCallChunk
from agentq.runs import Status
from tests.helpers import wait_until
from tests.unit._loop import Gate, SlowModel, Stage, is_stuck, outcome_of

if TYPE_CHECKING:
    from agentq.tools.function import Tool


def asks(index: int, name: str, arguments: str = "{}") -> ToolCallChunk:
    return ToolCallChunk(index, name, arguments)


class Tools:
    """Tools that note when they are entered, and go on when the test opens their gate."""

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}

    def make(self, name: str, **options: Any) -> Tool:
        gate = self.gates[name] = Gate()

        async def work(ctx: ToolContext) -> str:
            await ctx.progress(f"{name} has begun")
            return str(await gate.wait(name))

        return tool(work, **({"name": name, "description": "Work.", "effect": "none"} | options))

    def entered(self, name: str) -> int:
        return self.gates[name].entered


async def begun(stage: Stage, model: SlowModel) -> tuple[Any, asyncio.Task[Any]]:
    iteration, task = await stage.begin()
    await asyncio.wait_for(model.waiting.wait(), 5)
    return iteration, task


async def test_what_only_reads_starts_before_the_reply_is_complete():
    tools, model = Tools(), SlowModel([asks(0, "look"), asks(1, "find"), asks(2, "last")])
    stage = Stage(model, *[tools.make(name) for name in ("look", "find", "last")])
    _, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("look") == tools.entered("find") == 1, message="two calls run")
    assert tools.entered("last") == 0  # more of its arguments may come
    for gate in tools.gates.values():
        gate.open()
    assert await is_stuck(task)
    model.go.set()
    assert (await outcome_of(task)).tools == 3
    assert [result.content for result in await stage.results()] == ["look", "find", "last"]
    assert [tools.entered(name) for name in tools.gates] == [1, 1, 1]


async def test_viewers_hear_of_them_after_the_reply_and_in_order():
    tools, model = Tools(), SlowModel([asks(0, "look"), asks(1, "find"), asks(2, "last")])
    stage = Stage(model, *[tools.make(name) for name in ("look", "find", "last")])
    _, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("look") == tools.entered("find") == 1, message="two calls run")
    kinds = (ToolCalled, ToolProgress, ToolFinished)
    assert not [event for event in await stage.events() if isinstance(event, kinds)]
    tools.gates["find"].open()
    model.go.set()
    await wait_until(lambda: tools.entered("last") == 1, message="the last call runs")
    tools.gates["look"].open()
    tools.gates["last"].open()
    await outcome_of(task)
    events = await stage.events()
    told = [event for event in events if isinstance(event, (*kinds, ReplyCompleted))]
    assert isinstance(told[0], ReplyCompleted)
    for name in tools.gates:
        assert [event.type for event in told[1:] if event.name == name] == [  # type: ignore[union-attr]
            "tool.called",
            "tool.progress",
            "tool.finished",
        ]
    assert [event.name for event in told if isinstance(event, ToolCalled)] == ["look", "find", "last"]


@pytest.mark.parametrize(
    "options",
    [
        {"effect": "idempotent"},
        {"effect": "once"},
        {"concurrency_safe": False},
        {"permission": lambda ctx, given: True},
        {"validate": lambda ctx, given: None},
    ],
)
async def test_nothing_starts_early_that_may_not_nor_what_comes_after_it(options: dict[str, Any]):
    tools, model = Tools(), SlowModel([asks(0, "first"), asks(1, "act"), asks(2, "look"), asks(3, "last")])
    stage = Stage(model, tools.make("first"), tools.make("act", **options), tools.make("look"), tools.make("last"))
    _, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("first") == 1, message="the first call runs")
    assert await is_stuck(task)
    assert (tools.entered("act"), tools.entered("look")) == (0, 0)
    for gate in tools.gates.values():
        gate.open()
    model.go.set()
    await outcome_of(task)
    assert [result.content for result in await stage.results()] == ["first", "act", "look", "last"]


async def test_no_more_start_than_may_run_at_once():
    tools, model = Tools(), SlowModel([asks(index, name) for index, name in enumerate("abcd")])
    stage = Stage(model, *[tools.make(name) for name in "abcd"], max_parallel=2)
    _, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("a") == tools.entered("b") == 1, message="two calls run")
    assert await is_stuck(task)
    assert tools.entered("c") == 0
    model.go.set()
    assert await is_stuck(task)
    assert [event.name for event in await stage.events() if isinstance(event, ToolCalled)] == ["a", "b"]
    for gate in tools.gates.values():
        gate.open()
    await outcome_of(task)
    assert [tools.entered(name) for name in "abcd"] == [1, 1, 1, 1]


@pytest.mark.parametrize("void", [Retried(2, 0.0, "busy"), ProviderError("gone"), "cancel", "hand_back", "lose"])
async def test_what_was_begun_for_a_reply_that_is_void_is_stopped(void: Any):
    tools = Tools()
    after = [void, asks(0, "find"), asks(1, "last")] if isinstance(void, Retried) else []
    model = FailingModel([asks(0, "look"), asks(1, "last")], after, void if isinstance(void, Exception) else None)
    stage = Stage(model, *[tools.make(name) for name in ("look", "find", "last")])
    iteration, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("look") == 1, message="the call runs")
    if isinstance(void, str):
        if void == "cancel":
            await stage.store.cancel(stage.run_id)
        getattr(iteration, void)()
    model.go.set()
    await wait_until(lambda: tools.gates["look"].stopped == 1, message="the call is stopped")
    for gate in tools.gates.values():
        gate.open()
    await outcome_of(task)
    events = await stage.events()
    assert not [event for event in events if getattr(event, "name", None) == "look"]
    if isinstance(void, Retried):
        assert [result.content for result in await stage.results()] == ["find", "last"]
    if void == "cancel":
        assert (await stage.read()).status is Status.CANCELLED


class FailingModel(SlowModel):
    """A slow model that ends with an error, if one is given."""

    def __init__(self, before: Any, after: Any, error: Exception | None) -> None:
        super().__init__(before, after)
        self.error = error

    async def stream(self, request: Any) -> Any:
        async for chunk in super().stream(request):
            if self.go.is_set() and self.error is not None:
                raise self.error
            yield chunk


async def test_a_crash_while_the_model_streams_makes_the_call_again():
    """What counts is the journaled reply: nothing that was begun before it is kept."""
    tools, model = Tools(), SlowModel([asks(0, "look"), asks(1, "last")])
    stage = Stage(model, tools.make("look"), tools.make("last"))
    _, task = await begun(stage, model)
    await wait_until(lambda: tools.entered("look") == 1, message="the call runs")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for gate in tools.gates.values():
        gate.open()
    model.go.set()
    stage.pass_time(9.0)
    await stage.advance("worker-2")
    assert [result.content for result in await stage.results()] == ["look", "last"]
    assert tools.entered("look") == 2


async def test_arguments_that_change_after_all_are_what_counts():
    """A server that sends the pieces of two calls in turns."""
    seen: list[str] = []

    @tool(effect="none")
    async def find(word: str = "") -> str:
        """Find."""
        seen.append(word)
        return word

    model = SlowModel([asks(0, "find", ""), asks(1, "find", '{"word": "b"}'), asks(0, "", '{"word": "a"}')])
    stage = Stage(model, find)
    _, task = await begun(stage, model)
    await wait_until(lambda: seen == [""], message="the first call ran without arguments")
    model.go.set()
    await outcome_of(task)
    assert [result.content for result in await stage.results()] == ["a", "b"]


UNKNOWN = (
    "Outcome unknown: the call was stopped because fails, which was called with it, failed. It may or may not have had "
    "its effect."
)


class Pauses(SlowModel):
    """Lets others run after each piece."""

    async def stream(self, request: Any) -> Any:
        for piece in self.before:
            yield piece
            for _ in range(3):
                await asyncio.sleep(0)
        yield ReplyEnd(StopReason.TOOL_CALLS)


@given(
    plan=st.lists(
        st.tuples(st.booleans(), st.sampled_from(["look", "act"]), st.integers(0, 6)), min_size=1, max_size=9
    ),
    limit=st.integers(1, 4),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_at_any_moment_all_that_run_are_safe_or_one_runs_alone(plan: list[tuple[bool, str, int]], limit: int):
    running: list[bool] = []
    seen: list[tuple[bool, ...]] = []
    entered: list[int] = []

    async def work(safe: bool, turns: int, number: int) -> int:
        entered.append(number)
        running.append(safe)
        seen.append(tuple(running))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.remove(safe)
        return number

    def of(name: str, effect: Any) -> Any:
        return tool(
            work, name=name, description="Work.", effect=effect, concurrency_safe=lambda given: bool(given["safe"])
        )

    async def scenario() -> None:
        calls = [
            asks(number, name, _json.dumps({"safe": safe, "turns": turns, "number": number}).decode())
            for number, (safe, name, turns) in enumerate(plan)
        ]
        stage = Stage(Pauses(calls), of("look", "none"), of("act", "idempotent"), max_parallel=limit)
        await stage.advance()
        assert [result.content for result in await stage.results()] == [str(number) for number in range(len(plan))]
        assert not unanswered_calls(await stage.messages())

    asyncio.run(scenario())
    assert sorted(entered) == list(range(len(plan)))
    assert all(all(moment) or len(moment) == 1 for moment in seen)
    assert max(map(len, seen)) <= limit


class TestSiblings:
    """What happens to the calls beside one that fails."""

    @staticmethod
    async def failing(stage: Stage, gate: Gate) -> None:
        _, task = await stage.begin()
        await wait_until(lambda: gate.entered == 1, message="the call beside it runs")
        gate.open()
        await outcome_of(task)

    @pytest.mark.parametrize(
        ("options", "outcome", "content"),
        [
            (
                {"effect": "none", "interrupt": "cancel"},
                "cancelled",
                "Not done: fails, which was called with it, failed.",
            ),
            ({"effect": "none", "interrupt": "block"}, "ok", "work"),
            ({"effect": "none"}, "ok", "work"),
            ({"effect": "idempotent", "concurrency_safe": True}, "ok", "work"),
            (
                {"effect": "once", "concurrency_safe": True, "interrupt": "cancel"},
                "unknown",
                UNKNOWN,
            ),
        ],
    )
    async def test_one_that_runs(self, options: dict[str, Any], outcome: str, content: str):
        tools, fails = Tools(), Gate()

        @tool(effect="none", name="fails")
        async def failing() -> None:
            """Fail."""
            await fails.wait()
            raise ConnectionError("gone")

        stage = Stage(SlowModel([asks(0, "work"), asks(1, "fails")]), tools.make("work", **options), failing)
        stage.model.go.set()  # type: ignore[attr-defined]
        _, task = await stage.begin()
        await wait_until(lambda: tools.entered("work") == fails.entered == 1, message="both run")
        fails.open()
        if outcome == "ok":
            assert await is_stuck(task)
            tools.gates["work"].open()
        await outcome_of(task)
        work, failed = await stage.results()
        assert (work.outcome, work.content) == (outcome, content)
        assert (failed.outcome, failed.content) == ("error", "ConnectionError: gone")
        assert ("work", outcome) in await stage.ends_of_calls()

    async def test_one_that_waits_for_its_turn(self):
        @tool(effect="none", name="fails")
        async def failing() -> None:
            """Fail."""
            raise ConnectionError("gone")

        tools = Tools()
        waits = tools.make("waits", interrupt="cancel")
        stays = tools.make("stays")
        tools.gates["stays"].open()
        model = SlowModel([asks(0, "fails"), asks(1, "waits"), asks(2, "stays")])
        model.go.set()
        stage = Stage(model, failing, waits, stays, max_parallel=1)
        await stage.advance()
        assert [result.outcome for result in await stage.results()] == ["error", "cancelled", "ok"]
        assert tools.entered("waits") == 0
        assert "tool.called" not in await stage.told("waits")

    async def test_later_calls_that_are_not_beside_it_are_made(self):
        @tool(effect="none", name="fails", concurrency_safe=False)
        async def failing() -> None:
            """Fail."""
            raise ConnectionError("gone")

        tools = Tools()
        after = tools.make("after", interrupt="cancel")
        tools.gates["after"].open()
        model = SlowModel([asks(0, "fails"), asks(1, "after")])
        model.go.set()
        stage = Stage(model, failing, after)
        await stage.advance()
        assert [result.outcome for result in await stage.results()] == ["error", "ok"]
