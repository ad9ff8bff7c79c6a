"""Calls that wait for a person, a signal or a time: durable, decided once, and without a worker meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, DecisionRequest, Permission, Settings, ToolContext, tool
from agentq.errors import AlreadyDecided, DecisionRefused, InvalidInput, NotWaiting, RunAlreadyFinished, RunFailed
from agentq.events.model import RunAnswered, RunDelayed, RunWaiting, ToolCalled
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from tests.unit._resting import House, a_house

__all__ = ["a_house"]
PAY = call("pay", amount=500)


class TestApprovals:
    async def test_a_call_waits_without_a_worker_and_is_made_when_it_is_allowed(self, house: House):
        await house.start(PAY, tools=[house.pay(approvers=["finance"], destructive=True)])
        assert await house.advance() is Status.WAITING
        run = await house.store.read(house.run_id)
        assert run.owner is None
        (waiting,) = await house.client.inbox()
        assert (waiting.run.run_id, waiting.question.tool, waiting.question.kind) == (house.run_id, "pay", "approval")
        assert waiting.question.arguments == {"amount": 500}
        assert (waiting.question.approvers, waiting.question.destructive) == (("finance",), True)
        assert waiting.question.text == "pay has to be allowed by finance; what it does cannot be undone"
        (told,) = await house.events(RunWaiting)
        assert (told.kind, told.arguments, told.approvers) == ("approval", {"amount": 500}, ("finance",))
        assert told.destructive is True
        assert not await house.events(ToolCalled)
        said = await house.client.approve(house.run_id, by="ann", source="10.0.0.1")
        assert house.executor.woken[-1][0] == house.run_id
        assert [said, await house.advance()] == [Status.QUEUED] * 2
        assert house.done == [(500, 1)]
        assert await house.results() == [("ok", "paid 500")]
        (answered,) = await house.events(RunAnswered)
        assert (answered.answer, answered.by, answered.source) == ("approved", "ann", "10.0.0.1")
        assert await house.advance() is Status.COMPLETED
        assert len(house.model.requests) == 2
        assert await house.client.inbox() == ()

    async def test_a_denial_is_told_with_its_reason(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        await house.client.deny(house.run_id, reason="too much", by="ann")
        assert await house.advance() is Status.QUEUED
        assert await house.results() == [("error", "pay was denied by ann: too much")]
        assert house.done == []
        assert (await house.store.read(house.run_id)).errors == 0

    async def test_it_may_be_allowed_with_other_arguments(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        await house.client.approve(house.run_id, arguments={"amount": 100}, by="ann")
        await house.advance()
        assert house.done == [(100, 1)]
        (called,) = await house.events(ToolCalled)
        assert called.arguments == {"amount": 100}
        (answered,) = await house.events(RunAnswered)
        assert answered.arguments == {"amount": 100}

    async def test_other_arguments_that_do_not_fit_are_an_error_and_no_call(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        with pytest.raises(InvalidInput, match="arguments must be a dict"):
            await house.client.approve(house.run_id, arguments=[1])  # type: ignore[arg-type]
        await house.client.approve(house.run_id, arguments={"amount": "much"})
        await house.advance()
        ((outcome, content),) = await house.results()
        assert outcome == "error"
        assert "amount" in content
        assert house.done == []

    async def test_each_call_is_decided_on_its_own(self, house: House):
        calls = [call("pay", amount=amount) for amount in (1, 2, 3)]
        await house.start(calls, tools=[house.pay(concurrency_safe=True)])
        await house.advance()
        ids = [f"{house.run_id}.1.{index}" for index in range(3)]
        assert {waiting.question.call_id for waiting in await house.client.inbox()} == set(ids)
        with pytest.raises(NotWaiting, match="several calls that wait for an approval"):
            await house.client.approve(house.run_id)
        await house.client.approve(house.run_id, ids[2])
        # The run is queued by now; the other decisions do not wait for it.
        await house.client.deny(house.run_id, ids[0], reason="no")
        assert await house.advance() is Status.WAITING
        assert house.done == [(3, 1)]
        assert [waiting.question.call_id for waiting in await house.client.inbox()] == [ids[1]]
        await house.client.approve(house.run_id)
        assert await house.advance() is Status.QUEUED
        assert [outcome for outcome, _ in await house.results()] == ["error", "ok", "ok"]
        assert house.done == [(3, 1), (2, 1)]

    async def test_what_is_not_safe_beside_others_waits_for_what_comes_before(self, house: House):
        calls = [call("pay", amount=amount) for amount in (1, 2)]
        await house.start(calls, tools=[house.pay()])
        await house.advance()
        assert [waiting.question.arguments for waiting in await house.client.inbox()] == [{"amount": 1}]
        await house.client.approve(house.run_id)
        assert await house.advance() is Status.WAITING
        assert [waiting.question.arguments for waiting in await house.client.inbox()] == [{"amount": 2}]

    async def test_two_approvers_at_once(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        said = await asyncio.gather(
            house.client.approve(house.run_id, by="ann"),
            house.client.deny(house.run_id, by="bob"),
            return_exceptions=True,
        )
        refused = [each for each in said if isinstance(each, Exception)]
        assert len(refused) == 1
        assert isinstance(refused[0], AlreadyDecided)
        await house.advance()
        assert len(house.done) == 1 - (await house.results()).count(("error", "pay was denied by bob"))

    async def test_the_same_word_again_has_no_effect(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        await house.client.approve(house.run_id, by="ann")
        await house.client.approve(house.run_id, by="ann")
        assert len(await house.events(RunAnswered)) == 1
        await house.advance()
        with pytest.raises(NotWaiting):
            await house.client.approve(house.run_id, by="ann")

    async def test_a_cancel_comes_first(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        await house.store.cancel(house.run_id)
        with pytest.raises(NotWaiting):
            await house.client.approve(house.run_id)
        assert await house.advance() is Status.CANCELLED
        assert [outcome for outcome, _ in await house.results()] == ["cancelled"]
        assert house.done == []

    async def test_a_cancel_comes_after_it(self, house: House):
        await house.start(PAY, tools=[house.pay()])
        await house.advance()
        await house.client.approve(house.run_id)
        await house.store.cancel(house.run_id)
        assert await house.advance() is Status.CANCELLED
        assert house.done == []

    async def test_nobody_decides_in_time(self, house: House):
        await house.start(PAY, tools=[house.pay(approval_ttl=100)])
        assert await house.advance() is Status.WAITING
        await house.pass_time(70)
        assert await house.sweep() is Status.WAITING
        await house.pass_time(15)
        assert await house.sweep() is Status.QUEUED
        assert await house.advance() is Status.WAITING
        (warning,) = await house.events(RunDelayed)
        assert "still waits for a decision" in warning.reason
        assert 0 < warning.delay_ms <= 20_000
        await house.pass_time(20)
        assert await house.sweep() is Status.QUEUED
        assert await house.advance() is Status.QUEUED
        assert await house.results() == [("error", "pay was not called: nobody allowed it in time")]
        assert [event.answer for event in await house.events(RunAnswered)] == ["expired"]
        with pytest.raises(NotWaiting):
            await house.client.approve(house.run_id)

    async def test_allowed_in_the_last_moment(self, house: House):
        """The worker that finds the time over and the person who allows it meet: one of them counts."""
        await house.start(PAY, tools=[house.pay(approval_ttl=10)])
        await house.advance()
        await house.pass_time(11)
        assert await house.client.approve(house.run_id, by="ann") is Status.QUEUED
        await house.advance()
        assert house.done == [(500, 1)]

    @pytest.mark.parametrize(("amount", "asked"), [(100, False), (101, True)])
    async def test_a_function_of_the_arguments_says_whether(self, house: House, amount: int, *, asked: bool):
        tools = [house.pay(approval=lambda a: a.amount > 100)]
        await house.start(call("pay", amount=amount), tools=tools)
        assert (await house.advance() is Status.WAITING) is asked
        assert house.done == ([] if asked else [(amount, 1)])

    async def test_a_function_that_breaks_refuses(self, house: House):
        await house.start(PAY, tools=[house.pay(approval=lambda a: a.nothing)])
        await house.advance()
        ((outcome, content),) = await house.results()
        assert outcome == "error"
        assert content.startswith("pay was not called: whether it has to be allowed could not be said")

    async def test_permission_may_ask(self, house: House):
        tools = [house.pay(approval=False, permission=lambda ctx, given: Permission.ASK)]
        await house.start(PAY, tools=tools)
        assert await house.advance() is Status.WAITING
        await house.client.approve(house.run_id)
        await house.advance()
        assert house.done == [(500, 1)]

    async def test_a_hook_says_who_may(self, house: House):
        asked: list[DecisionRequest] = []

        async def authorize(request: DecisionRequest) -> bool | str:
            asked.append(request)
            return request.by in request.approvers or f"{request.by} is not of finance"

        await house.start(PAY, tools=[house.pay(approvers=["ann"])])
        await house.advance()
        client = AsyncClient(store=house.store, stream=house.stream, executor=house.executor, authorize=authorize)
        with pytest.raises(DecisionRefused, match="bob is not of finance"):
            await client.approve(house.run_id, by="bob")
        assert await house.status() is Status.WAITING
        await client.approve(house.run_id, by="ann")
        assert [(each.action, each.by) for each in asked] == [("approve", "bob"), ("approve", "ann")]
        assert asked[0].call is not None
        assert asked[0].call.arguments == {"amount": 500}

    async def test_a_worker_that_dies_after_the_approval_asks_nobody_again(self, house: House):
        gone = asyncio.Event()

        @tool(effect="idempotent", approval=True)
        async def pay(ctx: ToolContext, amount: int) -> str:
            """Pay."""
            house.done.append(ctx.attempt)
            if ctx.attempt == 1:
                gone.set()
                await asyncio.Event().wait()
            return "paid"

        await house.start(PAY, tools=[pay])
        await house.advance()
        await house.client.approve(house.run_id)
        claim = await house.store.claim([house.run_id], owner="w", claim_id="c", lease_ms=9_000)
        task = asyncio.create_task(house.loop.begin(claim[0]).run())
        await asyncio.wait_for(gone.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await house.pass_time(10)
        assert await house.advance("worker-2") is Status.QUEUED
        assert house.done == [1, 2]
        assert await house.results() == [("ok", "paid")]

    async def test_in_this_process_nobody_can_be_asked(self):
        @tool(effect="once", approval=True)
        async def pay(amount: int) -> str:
            """Pay."""
            return "paid"

        app = AgentQ([Agent("a", model="s", tools=[pay])], settings=Settings(), models={"s": ScriptedModel([PAY, "x"])})
        result = await app.run("a", "go")
        (answer,) = [each for message in result.messages for each in message.tool_results]
        assert answer.content.endswith("a person would have to allow it, and nobody can be asked")

    @pytest.mark.parametrize(
        ("options", "field"),
        [({"approval": "yes"}, "approval"), ({"approval_ttl": 0}, "approval_ttl"), ({"approvers": "ann"}, "approvers")],
    )
    def test_options_that_are_none(self, options: dict[str, Any], field: str):
        async def pay() -> None:
            """Pay."""

        with pytest.raises(InvalidInput) as raised:
            tool(**options)(pay)
        assert raised.value.field == field


class TestInput:
    @staticmethod
    def order(house: House, **options: Any) -> Any:
        async def order(ctx: ToolContext) -> str:
            """Order a shirt."""
            house.done.append("entered")
            size = await ctx.ask("Which size?", schema={"enum": ["S", "M"]}, **options)
            return f"ordered {size}"

        return tool(order, effect="once")

    async def test_an_answer_becomes_what_the_tool_was_waiting_for(self, house: House):
        await house.start(call("order"), tools=[self.order(house)])
        assert await house.advance() is Status.WAITING
        (waiting,) = await house.client.inbox()
        assert (waiting.question.kind, waiting.question.name) == ("input", "Which size?")
        assert waiting.question.schema == {"enum": ["S", "M"]}
        (told,) = await house.events(RunWaiting)
        assert (told.kind, told.answer_schema) == ("input", {"enum": ["S", "M"]})
        with pytest.raises(InvalidInput, match="answer does not fit what is asked for: 'XL' is not one of"):
            await house.client.answer(house.run_id, "XL")
        await house.client.answer(house.run_id, "M", by="ann")
        with pytest.raises((AlreadyDecided, NotWaiting)):
            await house.client.answer(house.run_id, "S")
        assert await house.advance() is Status.QUEUED
        assert await house.results() == [("ok", "ordered M")]
        assert house.done == ["entered", "entered"]

    async def test_nobody_answers_in_time(self, house: House):
        await house.start(call("order"), tools=[self.order(house, timeout=10)])
        await house.advance()
        await house.pass_time(11)
        await house.sweep()
        await house.advance()
        assert await house.results() == [("error", "TimeoutError: nobody answered within 10 s")]

    async def test_an_answer_to_one_question_does_not_answer_the_next(self, house: House):
        async def tidy(ctx: ToolContext) -> str:
            """Tidy up."""
            return f"{await ctx.ask('Delete the draft?')} {await ctx.ask('Delete everything?')}"

        await house.start(call("tidy"), tools=[tool(tidy, effect="once")])
        await house.advance()
        (first,) = await house.client.inbox()
        await house.client.answer(house.run_id, "no", number=first.question.number, by="bob")
        assert await house.advance() is Status.WAITING
        with pytest.raises(NotWaiting, match="asks another thing by now"):
            await house.client.answer(house.run_id, "yes", number=first.question.number, by="ann")
        (second,) = await house.client.inbox()
        with pytest.raises(InvalidInput, match="number must be a whole number"):
            await house.client.answer(house.run_id, "no", number="2")  # type: ignore[arg-type]
        await house.client.answer(house.run_id, "no", call_id=second.question.call_id, number=second.question.number)
        await house.advance()
        assert await house.results() == [("ok", "no no")]


class TestSignals:
    @staticmethod
    def ship(house: House, **options: Any) -> Any:
        async def ship(ctx: ToolContext) -> Any:
            """Ship."""
            house.done.append("entered")
            return await ctx.wait_for("packed", **options)

        return tool(ship, effect="once")

    async def test_a_signal_wakes_the_run(self, house: House):
        await house.start(call("ship"), tools=[self.ship(house)])
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "other", 1)
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "packed", {"by": "ann"})
        assert await house.status() is Status.QUEUED
        await house.advance()
        assert await house.results() == [("ok", '{"by":"ann"}')]
        assert await house.advance() is Status.COMPLETED
        with pytest.raises(RunAlreadyFinished):
            await house.client.signal(house.run_id, "packed")

    async def test_one_that_came_first_is_kept_and_taken_once(self, house: House):
        await house.start(call("ship"), call("ship"), tools=[self.ship(house)])
        await house.client.signal(house.run_id, "packed", 1, signal_id="a")
        await house.client.signal(house.run_id, "packed", 1, signal_id="a")
        assert await house.advance() is Status.QUEUED
        assert house.done == ["entered"]
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "packed", 1, signal_id="a")
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "packed", 2, signal_id="b")
        await house.advance()
        assert [content for _, content in await house.results()] == ["1", "2"]

    async def test_two_calls_and_one_signal(self, house: House):
        ship = tool(self.ship(house).function, name="ship", effect="none")
        await house.start([call("ship"), call("ship")], tools=[ship])
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "packed", 1)
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "packed", 2)
        assert await house.advance() is Status.QUEUED
        assert [content for _, content in await house.results()] == ["1", "2"]

    async def test_none_came_in_time(self, house: House):
        await house.start(call("ship"), tools=[self.ship(house, timeout=10)])
        await house.advance()
        await house.pass_time(11)
        await house.sweep()
        await house.advance()
        assert await house.results() == [("error", "TimeoutError: no signal packed came within 10 s")]


class TestTimers:
    async def test_a_tool_sleeps_without_a_worker(self, house: House):
        @tool(effect="once")
        async def remind(ctx: ToolContext) -> str:
            """Remind."""
            house.done.append("entered")
            await ctx.sleep(60)
            house.done.append("awake")
            return "reminded"

        await house.start(call("remind"), tools=[remind])
        assert await house.advance() is Status.WAITING
        assert await house.client.inbox() == ()
        await house.pass_time(59)
        assert await house.sweep() is Status.WAITING
        await house.pass_time(2)
        assert await house.sweep() is Status.QUEUED
        assert await house.advance() is Status.QUEUED
        assert house.done == ["entered", "entered", "awake"]
        assert await house.results() == [("ok", "reminded")]

    async def test_a_time_that_has_passed_is_no_rest(self, house: House):
        @tool(effect="none")
        async def remind(ctx: ToolContext) -> str:
            """Remind."""
            await ctx.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
            return "reminded"

        await house.start(call("remind"), tools=[remind])
        assert await house.advance() is Status.QUEUED
        assert await house.results() == [("ok", "reminded")]

    async def test_in_this_process_too(self):
        @tool(effect="none")
        async def nap(ctx: ToolContext) -> str:
            """Nap."""
            await ctx.sleep(0.05)
            return "rested"

        app = AgentQ(
            [Agent("a", model="s", tools=[nap])], settings=Settings(), models={"s": ScriptedModel([call("nap"), "ok"])}
        )
        result = await asyncio.wait_for(app.run("a", "go"), 10)
        assert [each.content for message in result.messages for each in message.tool_results] == ["rested"]

    async def test_times_that_are_none(self):
        ctx = ToolContext(run_id="R", call_id="R.1.0")
        for wrong in (-1, True, 1e9, "soon"):
            with pytest.raises(InvalidInput) as raised:
                await ctx.sleep(wrong)  # type: ignore[arg-type]
            assert raised.value.field == "seconds"
        with pytest.raises(InvalidInput, match="time zone"):
            await ctx.sleep_until(datetime(2020, 1, 1))  # noqa: DTZ001 - that is what is wrong with it
        with pytest.raises(InvalidInput, match="has to be called by a run"):
            await ctx.sleep_until(datetime.now(UTC) + timedelta(days=1))


class TestSteps:
    async def test_a_step_is_done_once_however_often_the_tool_is_entered(self, house: House):
        def noted(word: str) -> int:
            house.done.append(word)
            return 1

        @tool(effect="once")
        async def move(ctx: ToolContext) -> list[Any]:
            """Move house."""
            first = await ctx.step("pack", lambda: noted("packed"))
            came = await ctx.wait_for("van")
            second = await ctx.step("load", load)
            await ctx.sleep(10)
            return [first, came, second]

        async def load() -> str:
            house.done.append("loaded")
            return "loaded"

        await house.start(call("move"), tools=[move])
        await house.advance()
        await house.client.signal(house.run_id, "van", 7)
        assert await house.advance() is Status.WAITING
        await house.pass_time(11)
        await house.sweep()
        assert await house.advance() is Status.QUEUED
        assert house.done == ["packed", "loaded"]
        assert await house.results() == [("ok", '[1,7,"loaded"]')]

    async def test_another_order_is_refused(self, house: House):
        names = iter(["pack", "load"])

        @tool(effect="once")
        async def move(ctx: ToolContext) -> Any:
            """Move house."""
            await ctx.step(next(names), lambda: 1)
            return await ctx.wait_for("van")

        await house.start(call("move"), tools=[move])
        await house.advance()
        await house.client.signal(house.run_id, "van", 7)
        await house.advance()
        ((outcome, content),) = await house.results()
        assert outcome == "error"
        assert content == "step 1 is step load, and was step pack when the tool was entered before"

    async def test_a_synchronous_tool_waits_for_its_steps(self, house: House):
        @tool(effect="idempotent")
        def move(ctx: ToolContext) -> list[Any]:
            """Move house."""
            return [ctx.wait(ctx.step("pack", lambda: 1)), ctx.wait(ctx.wait_for("van"))]

        await house.start(call("move"), tools=[move])
        assert await house.advance() is Status.WAITING
        await house.client.signal(house.run_id, "van", 7)
        await house.advance()
        assert await house.results() == [("ok", "[1,7]")]

    async def test_steps_that_finished_are_not_done_again_after_a_crash(self, house: House):
        gone = asyncio.Event()

        @tool(effect="idempotent")
        async def move(ctx: ToolContext) -> str:
            """Move house."""
            await ctx.step("pack", lambda: house.done.append("packed"))
            if ctx.attempt == 1:
                gone.set()
                await asyncio.Event().wait()
            await ctx.step("load", lambda: house.done.append("loaded"))
            return "moved"

        await house.start(call("move"), tools=[move])
        claim = await house.store.claim([house.run_id], owner="w", claim_id="c", lease_ms=9_000)
        task = asyncio.create_task(house.loop.begin(claim[0]).run())
        await asyncio.wait_for(gone.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await house.pass_time(10)
        await house.advance("worker-2")
        assert house.done == ["packed", "loaded"]
        assert await house.results() == [("ok", "moved")]

    async def test_what_cannot_be_kept_is_an_error(self, house: House):
        @tool(effect="none")
        async def move(ctx: ToolContext) -> None:
            """Move house."""
            await ctx.step("pack", object)

        await house.start(call("move"), tools=[move])
        await house.advance()
        ((outcome, content),) = await house.results()
        assert outcome == "error"
        assert "a step has returned what cannot be kept" in content


async def test_a_run_of_app_run_says_that_nobody_can_be_asked():
    @tool(effect="once")
    async def order(ctx: ToolContext) -> Any:
        """Order."""
        return await ctx.ask("Which size?")

    app = AgentQ(
        [Agent("a", model="s", tools=[order], max_error_retries=0)],
        settings=Settings(),
        models={"s": ScriptedModel([call("order"), "ok"])},
    )
    with pytest.raises(RunFailed, match="nobody can be asked"):
        await app.run("a", "go")
