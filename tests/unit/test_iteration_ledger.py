"""Calls whose worker died: repeated where that is harmless, looked into where it is not, and never made in silence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, Reconciled, ToolContext, tool
from agentq.client_async import AsyncClient
from agentq.errors import InvalidInput, NotWaiting
from agentq.events.model import RunAnswered, RunWaiting
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from tests.helpers import wait_until
from tests.unit._loop import Stage

if TYPE_CHECKING:
    from agentq.messages import ToolResultPart
    from agentq.tools.behaviour import Effect


class Bank:
    """A tool that charges, whose worker dies in the first charges, and what it notes of that."""

    def __init__(self, *, deaths: int = 1, effect: Effect = "once", **options: Any) -> None:
        self.charged: list[int] = []
        self.attempts: list[tuple[str, int]] = []
        self.in_charge = asyncio.Event()
        self._deaths = deaths
        self.tool = tool(effect=effect, name="charge", **options)(self.charge)

    async def charge(self, amount: int, ctx: ToolContext) -> str:
        """Charge the card."""
        self.charged.append(amount)
        self.attempts.append((ctx.idempotency_key, ctx.attempt))
        if len(self.charged) <= self._deaths:
            self.in_charge.set()
            await asyncio.Event().wait()
        return f"charged {amount}"


def stage_of(bank: Bank, *more: Any) -> Stage:
    return Stage(ScriptedModel([[call("charge", amount=5), *more], "Done."]), bank.tool)


async def die_in_charge(stage: Stage, bank: Bank) -> None:
    """A worker takes the run, and is killed when the tool has begun."""
    _, task = await stage.begin()
    await asyncio.wait_for(bank.in_charge.wait(), 5)
    bank.in_charge.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stage.pass_time(9.0)


async def results_after(stage: Stage, bank: Bank) -> list[ToolResultPart]:
    await die_in_charge(stage, bank)
    await stage.play()
    return await stage.results()


@pytest.mark.parametrize("effect", ["none", "idempotent"])
async def test_what_may_be_repeated_is_with_the_same_key_and_the_next_attempt(effect: Effect):
    bank = Bank(effect=effect)
    stage = stage_of(bank)
    (result,) = await results_after(stage, bank)
    assert (result.outcome, result.content) == ("ok", "charged 5")
    key = f"{stage.run_id}.1.0"
    # A call without an effect leaves no trace before it has finished.
    assert bank.attempts == [(key, 1), (key, 1 if effect == "none" else 2)]


async def test_without_a_hook_the_model_hears_that_nobody_knows():
    bank = Bank()
    (result,) = await results_after(stage_of(bank), bank)
    assert (result.outcome, bank.charged) == ("unknown", [5])
    assert "Outcome unknown" in result.content


class TestReconcile:
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_what_the_hook_finds_is_the_result(self, is_async: bool):
        asked: list[tuple[str, int, dict[str, Any]]] = []

        def look(ctx: ToolContext, arguments: dict[str, Any]) -> dict[str, str]:
            asked.append((ctx.idempotency_key, ctx.attempt, arguments))
            return {"receipt": "4711"}

        async def look_async(ctx: ToolContext, arguments: dict[str, Any]) -> dict[str, str]:
            return look(ctx, arguments)

        bank = Bank(reconcile=look_async if is_async else look)
        stage = stage_of(bank)
        (result,) = await results_after(stage, bank)
        assert (result.outcome, result.content) == ("ok", '{"receipt":"4711"}')
        assert asked == [(f"{stage.run_id}.1.0", 1, {"amount": 5})]
        assert bank.charged == [5]
        assert await stage.told("charge") == ["tool.called", "tool.finished"]

    async def test_what_did_not_happen_is_done_now_as_another_attempt(self):
        bank = Bank(deaths=2, reconcile=lambda ctx, arguments: Reconciled.DID_NOT_HAPPEN)
        stage = stage_of(bank)
        await die_in_charge(stage, bank)
        await die_in_charge(stage, bank)
        await stage.play()
        (result,) = await stage.results()
        assert (result.outcome, result.content) == ("ok", "charged 5")
        assert [attempt for _, attempt in bank.attempts] == [1, 2, 3]
        assert len({key for key, _ in bank.attempts}) == 1

    async def test_a_hook_is_asked_before_any_later_call(self):
        order: list[str] = []

        def look(ctx: ToolContext, arguments: dict[str, Any]) -> Reconciled:
            order.append("look")
            return Reconciled.UNKNOWN

        @tool(effect="none")
        async def read() -> str:
            """Read."""
            order.append("read")
            return "read"

        bank = Bank(reconcile=look)
        stage = Stage(ScriptedModel([[call("charge", amount=5), call("read")], "Done."]), bank.tool, read)
        first, second = await results_after(stage, bank)
        assert order == ["look", "read"]
        assert (first.outcome, second.outcome) == ("unknown", "ok")

    @pytest.mark.parametrize("trouble", ["raises", "hangs", "no JSON"])
    async def test_a_hook_that_fails_knows_nothing(self, trouble: str, caplog: pytest.LogCaptureFixture):
        async def look(ctx: ToolContext, arguments: dict[str, Any]) -> Any:
            if trouble == "raises":
                raise ConnectionError("the bank is away")
            if trouble == "hangs":
                await asyncio.Event().wait()
            return object()

        bank = Bank(reconcile=look, timeout=0.05 if trouble == "hangs" else None)
        (result,) = await results_after(stage_of(bank), bank)
        assert (result.outcome, bank.charged) == ("unknown", [5])
        assert "tool charge could not find out what became of its call" in caplog.text

    async def test_a_worker_that_dies_in_the_hook_leaves_it_to_the_next(self):
        asked = 0

        async def look(ctx: ToolContext, arguments: dict[str, Any]) -> Any:
            nonlocal asked
            asked += 1
            if asked == 1:
                await asyncio.Event().wait()
            return "found"

        bank = Bank(reconcile=look)
        stage = stage_of(bank)
        await die_in_charge(stage, bank)
        _, task = await stage.begin()
        await wait_until(lambda: asked == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stage.pass_time(9.0)
        await stage.play()
        (result,) = await stage.results()
        assert (result.content, asked, bank.charged) == ("found", 2, [5])

    async def test_a_tool_that_is_gone_is_asked_nothing(self):
        bank = Bank(reconcile=lambda ctx, arguments: "found")
        stage = stage_of(bank)
        await die_in_charge(stage, bank)
        stage.loop.agents = {"calculator": Stage(stage.model).agent}
        await stage.play()
        assert [result.outcome for result in await stage.results()] == ["unknown"]


class TestAskingAPerson:
    async def waits(self, bank: Bank, *more: Any) -> tuple[Stage, AsyncClient]:
        stage = stage_of(bank, *more)
        await die_in_charge(stage, bank)
        outcome = await stage.advance()
        assert (outcome.kind, outcome.status) == ("released", Status.WAITING)
        return stage, AsyncClient(store=stage.store, executor=stage.executor)

    async def test_the_run_waits_and_says_for_what(self):
        stage, _ = await self.waits(Bank(on_unknown="ask"))
        run = await stage.read()
        assert run.question is not None
        assert (run.question.tool, run.question.arguments) == ("charge", {"amount": 5})
        (event,) = [event for event in await stage.events() if isinstance(event, RunWaiting)]
        assert (event.call_id, event.name, event.arguments) == (f"{stage.run_id}.1.0", "charge", {"amount": 5})

    async def test_the_result_that_a_person_gives_is_the_calls(self):
        bank = Bank(on_unknown="ask")
        stage, client = await self.waits(bank)
        assert await client.answer(stage.run_id, {"receipt": "4711"}, by="ada") is Status.QUEUED
        assert (await stage.play()).status is Status.COMPLETED
        (result,) = await stage.results()
        assert (result.outcome, result.content, bank.charged) == ("ok", '{"receipt":"4711"}', [5])
        (event,) = [event for event in await stage.events() if isinstance(event, RunAnswered)]
        assert (event.answer, event.by) == ("result", "ada")

    async def test_an_answer_that_cannot_be_stored_is_refused_and_the_run_still_waits(self):
        stage, client = await self.waits(Bank(on_unknown="ask"))
        for given, why in ((object(), "cannot be stored"), ("x" * 2_000_000, "max_value_bytes=1000000")):
            with pytest.raises(InvalidInput, match=why):
                await client.answer(stage.run_id, given)
        assert (await stage.read()).status is Status.WAITING

    async def test_a_call_that_a_person_says_did_not_happen_is_made_again(self):
        bank = Bank(on_unknown="ask")
        stage, client = await self.waits(bank)
        await client.answer(stage.run_id, Reconciled.DID_NOT_HAPPEN)
        await stage.play()
        (result,) = await stage.results()
        assert (result.outcome, bank.charged) == ("ok", [5, 5])
        assert [attempt for _, attempt in bank.attempts] == [1, 2]

    async def test_a_person_may_not_know_either(self):
        bank = Bank(on_unknown="ask")
        stage, client = await self.waits(bank)
        await client.answer(stage.run_id, Reconciled.UNKNOWN)
        await stage.play()
        assert ([result.outcome for result in await stage.results()], bank.charged) == (["unknown"], [5])

    async def test_a_cancelled_run_waits_no_more(self):
        bank = Bank(on_unknown="ask")
        stage, client = await self.waits(bank)
        assert await client.cancel(stage.run_id) is Status.CANCELLED
        assert [result.outcome for result in await stage.results()] == ["unknown"]
        with pytest.raises(NotWaiting):
            await client.answer(stage.run_id, "charged")

    async def test_each_call_is_asked_about_on_its_own(self):
        bank = Bank(deaths=2, on_unknown="ask")
        stage, client = await self.waits(bank, call("charge", amount=7))
        with pytest.raises(NotWaiting, match=r"about call .*\.1\.0, not"):
            await client.answer(stage.run_id, "first", call_id=f"{stage.run_id}.1.1")
        await client.answer(stage.run_id, "first", call_id=f"{stage.run_id}.1.0")
        await die_in_charge(stage, bank)
        assert (await stage.advance()).status is Status.WAITING
        await client.answer(stage.run_id, "second")
        await stage.play()
        assert [result.content for result in await stage.results()] == ["first", "second"]
        assert bank.charged == [5, 7]


class TestRetry:
    async def test_a_quarantined_run_goes_on_from_its_journal(self):
        bank = Bank(deaths=6, effect="idempotent")
        stage = stage_of(bank)
        for _ in range(6):
            await die_in_charge(stage, bank)
        assert (await stage.play()).status is Status.FAILED
        usage = (await stage.read()).usage
        assert await AsyncClient(store=stage.store, executor=stage.executor).retry(stage.run_id) is Status.QUEUED
        run = await stage.play()
        assert (run.status, run.retries, run.recoveries) == (Status.COMPLETED, 1, 0)
        # The reply was journaled before the first crash, and is not asked for again.
        assert len(stage.model.requests) == 2  # type: ignore[attr-defined]
        assert [result.content for result in await stage.results()] == ["charged 5"]
        assert usage == {}
        assert run.turn == 2

    async def test_a_cancelled_run_goes_on_and_the_model_hears_of_it(self):
        stage = Stage(ScriptedModel(["Never.", "Done."]))
        await stage.enqueue()
        client = AsyncClient(store=stage.store, executor=stage.executor)
        await client.cancel(stage.run_id, reason="wrong customer")
        assert await client.retry(stage.run_id) is Status.QUEUED
        run = await stage.play()
        assert (run.status, run.cancel_reason) == (Status.COMPLETED, None)

    async def test_a_partial_reply_does_not_pass_for_an_answer(self):
        from tests.unit._loop import SlowModel

        stage = Stage(model := SlowModel(before=["It is "], after=["16."]))
        iteration, task = await stage.begin()
        await model.waiting.wait()
        client = AsyncClient(store=stage.store, executor=stage.executor)
        await client.cancel(stage.run_id, reason="wrong customer")
        iteration.cancel()
        await task
        assert [message.text for message in await stage.messages()] == ["It is "]
        await client.retry(stage.run_id)
        model.go.set()
        run = await stage.play()
        assert run.status is Status.COMPLETED
        assert [message.text for message in await stage.messages()][-1] == "It is 16."
        assert await stage.notes() == [
            "The run had stopped (wrong customer) and was taken up again. Go on from where you were."
        ]


@pytest.mark.parametrize("field", ["reconcile", "on_unknown"])
def test_what_may_be_repeated_has_nothing_to_look_into(field: str):
    value: Any = {"reconcile": lambda ctx, arguments: None, "on_unknown": "ask"}[field]
    with pytest.raises(InvalidInput, match=f'{field} is for tools with effect="once"'):
        Bank(effect="idempotent", **{field: value})
    Bank(**{field: value})


def test_options_are_checked():
    with pytest.raises(
        InvalidInput, match='on_unknown must be "tell" or "ask", not "maybe"'.replace('"maybe"', "'maybe'")
    ):
        Bank(on_unknown="maybe")
    with pytest.raises(InvalidInput, match="reconcile must be a function"):
        Bank(reconcile="look")
    with pytest.raises(InvalidInput, match='interrupt must be "cancel" or "block"'):
        Bank(interrupt="stop")


class TestAChangedMind:
    """What a repeated call is told when the tool would not take it any more."""

    @pytest.mark.parametrize("said", [False, "over the limit"])
    async def test_a_call_that_has_begun_is_not_asked_for_again(self, said: Any):
        asked: list[int] = []

        def permission(ctx: ToolContext, given: dict[str, Any]) -> Any:
            asked.append(ctx.attempt)
            return said if len(asked) > 1 else True

        bank = Bank(effect="idempotent", permission=permission)
        (result,) = await results_after(stage_of(bank), bank)
        assert (result.outcome, result.content) == ("ok", "charged 5")
        assert (asked, len(bank.charged)) == ([1], 2)

    async def test_its_arguments_are_refused_now(self):
        def validate(ctx: ToolContext, given: dict[str, Any]) -> None:
            if ctx.attempt > 1:
                raise ValueError("the shop is closed")

        bank = Bank(effect="idempotent", validate=validate)
        (result,) = await results_after(stage_of(bank), bank)
        assert result.outcome == "unknown"
        assert len(bank.charged) == 1

    async def test_the_tool_is_gone(self):
        bank = Bank(effect="idempotent")
        stage = stage_of(bank)
        await die_in_charge(stage, bank)
        stage.loop.agents = {"calculator": Agent("calculator", model="mock")}
        await stage.play()
        assert [result.outcome for result in await stage.results()] == ["unknown"]
        assert len(bank.charged) == 1

    async def test_reconcile_sees_what_the_function_got(self):
        seen: list[dict[str, Any]] = []

        def reconcile(ctx: ToolContext, given: dict[str, Any]) -> str:
            seen.append(given)
            return "charged before"

        bank = Bank(validate=lambda ctx, given: {"amount": given["amount"] * 2}, reconcile=reconcile)
        (result,) = await results_after(stage_of(bank), bank)
        assert (result.content, seen, bank.charged) == ("charged before", [{"amount": 10}], [10])
