"""What a run may use: tokens, cost, iterations and time; it fails, or waits until it may use more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq import Agent, AgentQ, RunLimits, ToolError, tool
from agentq.errors import InvalidInput, RunFailed
from agentq.events.limits import LimitReached
from agentq.limits import Standing, limits_of, reached
from agentq.messages import StopReason, Usage
from agentq.providers.base import ReplyEnd, ToolCallChunk
from agentq.runs import LIMIT, Status
from agentq.steering import Steering
from tests.helpers import wait_until
from tests.unit._loop import Gate, SlowModel, Stage, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest

USED = Usage(input_tokens=90, output_tokens=10, cost_nanousd=200_000_000)


class Caller:
    """Asks for the tool again and again; each reply takes 100 tokens and 20 cents."""

    name = "caller"

    def __init__(self, *tools: str) -> None:
        self.tools = tools or ("look",)
        self.asked = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.asked += 1
        for index, name in enumerate(self.tools):
            yield ToolCallChunk(index=index, name=name, arguments="{}")
        yield ReplyEnd(StopReason.TOOL_CALLS, usage=USED)


@tool(effect="none")
async def look() -> str:
    """Look."""
    return "nothing new"


def asked(stage: Stage) -> int:
    assert isinstance(stage.model, Caller)
    return stage.model.asked


def limit_events(events: list[Any]) -> list[LimitReached]:
    return [event for event in events if isinstance(event, LimitReached)]


class TestUse:
    @pytest.mark.parametrize(
        ("limits", "times", "words"),
        [
            (RunLimits(tokens=250), 3, "limit tokens=250: 300 used"),
            (RunLimits(cost_usd=0.5), 3, "limit cost_usd=0.5: 0.6 used"),
            (RunLimits(iterations=2), 2, "limit iterations=2: 2 used"),
        ],
    )
    async def test_a_run_that_has_used_all_fails_and_says_what_it_had(self, limits: RunLimits, times: int, words: str):
        stage = Stage(Caller(), look, limits=limits)
        run = await stage.play()
        assert asked(stage) == times
        assert run.status is Status.FAILED
        assert words in (run.last_error or "")
        (told,) = limit_events(await stage.events())
        assert (told.limit, told.of, told.on_reached) == (next(iter(limits.given())), "the run", "fail")
        assert told.used >= told.allowed

    async def test_tools_of_a_reply_that_is_paid_for_are_still_called(self):
        stage = Stage(Caller(), look, limits=RunLimits(tokens=50))
        await stage.play()
        assert [result.content for result in await stage.results()] == ["nothing new"]

    async def test_an_answer_counts_though_it_took_more(self):
        result = await AgentQ(agents=[Agent("a", model="mock", limits=RunLimits(tokens=1))], store=None).run(
            "a", "say it is done"
        )
        assert result.output == "it is done"

    async def test_what_the_run_says_comes_before_what_its_agent_says(self):
        stage = Stage(Caller(), look, limits=RunLimits(tokens=150, iterations=50))
        await stage.enqueue(limits=RunLimits(tokens=450))
        run = await stage.play()
        assert "tokens=450" in (run.last_error or "")

    async def test_a_run_may_name_its_limits_in_process(self):
        app = AgentQ(agents=[Agent("a", model="mock", tools=[look])])
        with pytest.raises(RunFailed, match="iterations=1"):
            await app.run("a", "call look {}\ncall look {}\nsay done", limits=RunLimits(iterations=1))

    async def test_a_retry_begins_anew(self):
        stage = Stage(Caller(), look, limits=RunLimits(tokens=250))
        run = await stage.play()
        await steering(stage).retry(run.run_id)
        await stage.play()
        assert asked(stage) == 6

    async def test_what_is_sent_into_a_run_gives_it_no_more(self):
        stage = Stage(Caller(), look, limits=RunLimits(iterations=2), max_iterations=1)
        await stage.enqueue()
        for _ in range(3):
            await steering(stage).steer(stage.run_id, "Go on.", (), by="")
            await stage.advance()
        run = await stage.read()
        assert (run.status, asked(stage)) == (Status.FAILED, 2)
        assert "limit iterations=2: 2 used" in (run.last_error or "")

    async def test_a_worker_that_dies_counts_nothing_twice(self):
        gate = Gate()

        @tool(effect="once")
        async def wait() -> str:
            """Wait."""
            return str(await gate.wait())

        stage = Stage(Caller("wait"), wait)
        _, task = await stage.begin()
        await wait_until(lambda: gate.entered == 1)
        claim = await stage.lose_lease()
        assert claim.run.usage == {}
        gate.open()
        await outcome_of(task)
        await stage.loop.begin(claim).run()
        assert Usage(**(await stage.read()).usage).total_tokens == 100

    async def test_a_reply_that_stays_in_the_journal_of_a_failed_run_is_counted_once(self):
        gate = Gate()

        @tool(effect="none")
        async def wait() -> str:
            """Wait."""
            return str(await gate.wait())

        stage = Stage(Caller("wait"), wait, limits=RunLimits(wall_s=5))
        _, task = await stage.begin()
        await wait_until(lambda: gate.entered == 1)
        stage.clock.advance(5)
        await outcome_of(task)
        run = await stage.read()
        assert run.status is Status.FAILED
        assert Usage(**run.usage).total_tokens == 100
        await steering(stage).retry(run.run_id)
        gate.open()
        await stage.advance()
        run = await stage.read()
        assert Usage(**run.usage).total_tokens == 100
        assert run.turn == 1
        await stage.advance()
        assert Usage(**(await stage.read()).usage).total_tokens == 200


class TestTime:
    async def test_a_model_that_talks_past_the_wall_time_is_stopped(self):
        model = SlowModel(before=["Well, "])
        stage = Stage(model, limits=RunLimits(wall_s=60))
        _, task = await stage.begin()
        await model.waiting.wait()
        stage.clock.advance(59)
        assert not task.done()
        stage.clock.advance(1)
        assert (await outcome_of(task)).status is Status.FAILED
        assert model.left == 1
        assert "limit wall_s=60: 60 used" in ((await stage.read()).last_error or "")
        assert [event.type for event in await stage.events()][-3:] == [
            "limit.reached", "iteration.finished", "run.failed",
        ]  # fmt: skip

    async def test_what_has_an_effect_is_finished_and_what_only_reads_is_stopped(self):
        paying, reading = Gate(), Gate()

        @tool(effect="once", concurrency_safe=True)
        async def pay() -> str:
            """Pay."""
            return str(await paying.wait("paid"))

        @tool(effect="none")
        async def read() -> str:
            """Read."""
            return str(await reading.wait())

        stage = Stage(Caller("pay", "read"), pay, read, limits=RunLimits(wall_s=60))
        _, task = await stage.begin()
        await wait_until(lambda: paying.entered == 1)
        stage.clock.advance(60)
        paying.open()
        assert (await outcome_of(task)).status is Status.FAILED
        assert (paying.done, reading.done) == (1, 0)
        run = await stage.read()
        await steering(stage).retry(run.run_id)
        reading.open()
        await stage.advance()
        assert [result.content for result in await stage.results()] == ["paid", "done"]
        assert paying.entered == 1

    async def test_time_that_passed_before_the_claim_counts(self):
        stage = Stage(Caller(), look, limits=RunLimits(wall_s=60))
        await stage.advance()
        stage.pass_time(60)
        await stage.advance()
        assert (await stage.read()).status is Status.FAILED
        assert asked(stage) == 1

    async def test_failures_are_no_progress(self):
        @tool(effect="none")
        async def fail() -> str:
            """Fail."""
            raise RuntimeError("no")

        stage = Stage(Caller("fail"), fail, limits=RunLimits(no_progress_s=60))
        await stage.advance()
        stage.pass_time(59)
        await stage.advance()
        stage.pass_time(1)
        await stage.advance()
        assert "limit no_progress_s=60: 60 used" in ((await stage.read()).last_error or "")

    async def test_progress_begins_the_time_anew(self):
        stage = Stage(Caller(), look, limits=RunLimits(no_progress_s=60))
        for _ in range(4):
            await stage.advance()
            stage.pass_time(50)
        assert (await stage.read()).status is Status.QUEUED

    async def test_a_cancel_after_the_end_of_the_time_is_a_cancel(self):
        model = SlowModel(before=["Well, "])
        stage = Stage(model, limits=RunLimits(wall_s=60))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        await stage.store.cancel(stage.run_id, reason="enough")
        stage.clock.advance(60)
        iteration.cancel()
        assert (await outcome_of(task)).status is Status.CANCELLED

    async def test_no_timer_is_left_behind(self):
        stage = Stage(Caller(), look, limits=RunLimits(wall_s=60))
        await stage.advance()
        assert stage.clock.sleepers == 0
        assert not [task for task in asyncio.all_tasks() if "_stop_in" in repr(task)]


def steering(stage: Stage) -> Steering:
    unused: Any = None
    return Steering(stage.store, stage.store.stream, stage.executor, stage.settings, unused, unused)


class TestWaiting:
    async def test_a_run_waits_until_it_may_use_more(self):
        stage = Stage(Caller(), look, limits=RunLimits(tokens=150, on_reached="wait"))
        for _ in range(3):
            await stage.advance()
        run = await stage.read()
        assert run.status is Status.WAITING
        assert run.question is not None
        assert (run.question.kind, run.question.tool) == (LIMIT, "")
        assert "tokens=150: 200 used" in run.question.text
        (told,) = limit_events(await stage.events())
        assert (told.on_reached, told.within_ms) == ("wait", 0)
        assert stage.executor.woken[-1][0] == run.run_id
        woken = len(stage.executor.woken)
        assert await steering(stage).set_limits(run.run_id, RunLimits(tokens=250), by="ada") is Status.QUEUED
        assert len(stage.executor.woken) == woken + 1
        await stage.advance()
        assert asked(stage) == 3
        await stage.advance()
        assert (await stage.read()).status is Status.WAITING

    async def test_other_limits_leave_what_they_do_not_name(self):
        stage = Stage(Caller(), look)
        await stage.enqueue(limits=RunLimits(tokens=150, on_reached="wait"))
        await steering(stage).set_limits(stage.run_id, RunLimits(cost_usd=3), by="")
        assert (await stage.read()).limits == RunLimits(tokens=150, cost_usd=3, on_reached="wait")

    async def test_a_wait_ends_with_the_time_of_the_run(self):
        stage = Stage(Caller(), look, limits=RunLimits(tokens=50, wall_s=60, on_reached="wait"))
        await stage.advance()
        await stage.advance()
        assert (await stage.read()).status is Status.WAITING
        stage.pass_time(60)
        await stage.advance()
        run = await stage.read()
        assert run.question is not None
        assert "wall_s=60" in run.question.text
        assert run.not_before_ms == 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("given_limits", "field"),
        [
            ({"tokens": 0}, "tokens"),
            ({"tokens": 1.5}, "tokens"),
            ({"tokens": True}, "tokens"),
            ({"iterations": -1}, "iterations"),
            ({"cost_usd": 0}, "cost_usd"),
            ({"cost_usd": float("nan")}, "cost_usd"),
            ({"cost_usd": "5"}, "cost_usd"),
            ({"wall_s": 0}, "wall_s"),
            ({"wall_s": float("inf")}, "wall_s"),
            ({"no_progress_s": 10**12}, "no_progress_s"),
            ({"on_reached": "stop"}, "on_reached"),
        ],
    )
    def test_what_limits_nothing_is_refused(self, given_limits: dict[str, Any], field: str):
        with pytest.raises(InvalidInput) as caught:
            RunLimits(**given_limits)
        assert caught.value.field == field

    def test_an_agent_takes_limits_only(self):
        with pytest.raises(InvalidInput, match=r"limits must be RunLimits\(...\)"):
            Agent("a", limits={"tokens": 5})  # type: ignore[arg-type]


amounts = st.one_of(st.none(), st.integers(1, 1000))
some_limits = st.builds(
    RunLimits,
    tokens=amounts,
    iterations=amounts,
    cost_usd=st.one_of(st.none(), st.floats(0.001, 10)),
    wall_s=st.one_of(st.none(), st.floats(0.001, 10)),
    no_progress_s=st.one_of(st.none(), st.floats(0.001, 10)),
    on_reached=st.sampled_from([None, "fail", "wait"]),
)
standings = st.builds(
    Standing,
    limits=some_limits,
    tokens=st.integers(0, 2000),
    cost_nanousd=st.integers(0, 20 * 10**9),
    iterations=st.integers(0, 2000),
    wall_ms=st.floats(0, 20_000),
    idle_ms=st.floats(0, 20_000),
)


class TestProperties:
    @given(standings)
    def test_a_timer_that_has_rung_finds_the_limit_reached(self, standing: Standing):
        left = standing.left_ms()
        if left is None:
            return
        later = replace(standing, wall_ms=standing.wall_ms + left, idle_ms=standing.idle_ms + left)
        while more := later.left_ms():
            later = replace(later, wall_ms=later.wall_ms + more, idle_ms=later.idle_ms + more)
        assert reached(later, asks_model=False) is not None

    @given(standings, st.booleans())
    def test_what_is_reached_is_used_up(self, standing: Standing, asks_model: bool):
        found = reached(standing, asks_model=asks_model)
        if found is not None:
            assert found.used >= found.allowed * (1 - 1e-9)
            assert getattr(standing.limits, found.limit) == found.allowed

    @given(some_limits, some_limits)
    def test_limits_come_back_and_those_given_stand_first(self, one: RunLimits, other: RunLimits):
        assert limits_of(one.given()) == (one if one.given() else None)
        assert one.over(other).given() == other.given() | one.given()


async def test_a_tool_error_is_no_reason_to_stop_time():
    """A timer that rings while nothing runs is seen by the next decision."""

    @tool(effect="none")
    async def refuse() -> str:
        """Refuse."""
        raise ToolError("not today")

    stage = Stage(Caller("refuse"), refuse, limits=RunLimits(wall_s=60))
    await stage.advance()
    assert (await stage.read()).status is Status.QUEUED
