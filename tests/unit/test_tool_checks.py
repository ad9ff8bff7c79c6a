"""What is asked before a tool is called, how often it is called again, and how much of its result is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentq import Agent, AgentQ, Permission, Settings, ToolContext, tool
from agentq.errors import InvalidInput, RunFailed, ToolError
from agentq.events.model import ToolCalled, ToolFailed, ToolFinished
from agentq.testing import ScriptedModel, call

if TYPE_CHECKING:
    from agentq import RunResult

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


async def run(made: Any, *calls: Any, events: list[Any] | None = None, **agent: Any) -> RunResult:
    model = ScriptedModel([list(calls), "done"])
    app = AgentQ(
        [Agent("a", model="scripted", tools=[made], retry_backoff_s=0, **agent)],
        settings=Settings(),
        models={"scripted": model},
    )
    return await app.run("a", "go", on_event=None if events is None else events.append)


def results_of(result: RunResult) -> list[tuple[str, str]]:
    return [(each.outcome, each.content) for message in result.messages for each in message.tool_results]


class TestValidate:
    async def test_a_hook_may_correct_the_arguments(self):
        @tool(effect="once", validate=lambda ctx, given: given | {"amount": min(given["amount"], 100)})
        async def pay(amount: int) -> str:
            SEEN.append(amount)
            return f"paid {amount}"

        assert results_of(await run(pay, call("pay", amount=500))) == [("ok", "paid 100")]

    @pytest.mark.parametrize("error", [ValueError("too much"), ToolError("too much")])
    async def test_a_hook_may_refuse_with_a_reason(self, error: Exception):
        def validate(ctx: ToolContext, given: dict[str, Any]) -> None:
            raise error

        @tool(effect="once", validate=validate)
        async def pay(amount: int) -> str:
            SEEN.append(amount)
            return "paid"

        events: list[Any] = []
        assert results_of(await run(pay, call("pay", amount=5), events=events)) == [
            ("error", "pay was not called: too much")
        ]
        assert SEEN == []
        assert not [event for event in events if isinstance(event, ToolCalled)]
        assert len([event for event in events if isinstance(event, ToolFailed)]) == 1

    async def test_a_hook_sees_what_the_function_would_get(self):
        async def validate(ctx: ToolContext, given: dict[str, Any]) -> None:
            SEEN.append((ctx.call_id.rpartition(".")[2], given))

        @tool(effect="none", validate=validate)
        def look(day: str, guests: int = 2) -> str:
            return "free"

        await run(look, call("look", day="Friday"))
        assert SEEN == [("0", {"day": "Friday", "guests": 2})] or SEEN == [("0", {"day": "Friday"})]

    async def test_a_hook_that_breaks_refuses_and_counts_as_a_failure(self):
        @tool(effect="once", validate=lambda ctx, given: 1 / 0)
        async def pay(amount: int) -> str:
            SEEN.append(amount)
            return "paid"

        with pytest.raises(RunFailed, match="ZeroDivisionError"):
            await run(pay, call("pay", amount=5), max_error_retries=0)
        assert SEEN == []

    async def test_a_hook_that_cancels_itself_refuses_and_counts_as_a_failure(self):
        async def validate(ctx: ToolContext, given: dict[str, Any]) -> None:
            raise asyncio.CancelledError

        @tool(effect="once", validate=validate)
        async def pay(amount: int) -> str:
            SEEN.append(amount)
            return "paid"

        with pytest.raises(RunFailed, match="pay was not called: CancelledError"):
            await run(pay, call("pay", amount=5), max_error_retries=0)
        assert SEEN == []


class TestPermission:
    @pytest.mark.parametrize(
        ("said", "result"),
        [
            (True, ("ok", "paid")),
            (Permission.ALLOW, ("ok", "paid")),
            (False, ("error", "pay was denied")),
            (None, ("error", "pay was denied")),
            (Permission.DENY, ("error", "pay was denied")),
            ("over the limit", ("error", "pay was denied: over the limit")),
            (Permission.ASK, ("error", "pay was not called: a person would have to allow it, and nobody can be asked")),
        ],
    )
    async def test_what_it_says(self, said: Any, result: tuple[str, str]):
        async def permission(ctx: ToolContext, given: dict[str, Any]) -> Any:
            return said

        @tool(effect="once", permission=permission)
        async def pay(amount: int) -> str:
            return "paid"

        assert results_of(await run(pay, call("pay", amount=5))) == [result]

    async def test_it_judges_what_validate_made_of_it(self):
        @tool(
            effect="once",
            validate=lambda ctx, given: {"amount": given["amount"] * 2},
            permission=lambda ctx, given: given["amount"] == 10,
        )
        async def pay(amount: int) -> str:
            return f"paid {amount}"

        assert results_of(await run(pay, call("pay", amount=5))) == [("ok", "paid 10")]

    async def test_arguments_that_do_not_fit_never_reach_a_hook(self):
        def permission(ctx: ToolContext, given: dict[str, Any]) -> bool:
            SEEN.append(given)
            return True

        @tool(effect="once", permission=permission)
        async def pay(amount: int) -> str:
            return "paid"

        ((outcome, content),) = results_of(await run(pay, call("pay", amount="much")))
        assert outcome == "error"
        assert "amount" in content
        assert SEEN == []


class TestRetries:
    async def test_a_call_that_fails_is_made_again(self):
        @tool(effect="idempotent", retries=2, retry_backoff_s=0)
        async def fetch(ctx: ToolContext) -> str:
            SEEN.append((ctx.attempt, ctx.idempotency_key))
            if len(SEEN) < 3:
                raise ConnectionError("gone")
            return "here"

        assert results_of(await run(fetch, call("fetch"))) == [("ok", "here")]
        assert [attempt for attempt, _ in SEEN] == [1, 2, 3]
        assert len({key for _, key in SEEN}) == 1

    @pytest.mark.parametrize("is_sync", [True, False])
    async def test_the_last_failure_is_told(self, *, is_sync: bool):
        def fails() -> str:
            """Fail."""
            SEEN.append(1)
            raise ConnectionError("gone")

        async def fails_too() -> str:
            """Fail."""
            return fails()

        made = tool(effect="none", retries=1, retry_backoff_s=0, name="fails")(fails if is_sync else fails_too)
        assert results_of(await run(made, call("fails"))) == [("error", "ConnectionError: gone")]
        assert len(SEEN) == 2

    async def test_what_a_tool_says_is_its_answer(self):
        @tool(effect="none", retries=3, retry_backoff_s=0)
        async def look() -> str:
            SEEN.append(1)
            raise ToolError("there is no such day")

        assert results_of(await run(look, call("look"))) == [("error", "there is no such day")]
        assert len(SEEN) == 1

    async def test_a_call_that_took_too_long_is_made_again(self):
        @tool(effect="none", timeout=0.05, retries=1, retry_backoff_s=0)
        async def look(ctx: ToolContext) -> str:
            SEEN.append(ctx.cancelled)
            if len(SEEN) == 1:
                await asyncio.sleep(60)
            return "here"

        assert results_of(await run(look, call("look"))) == [("ok", "here")]
        assert SEEN == [False, False]


class TestResults:
    async def test_a_long_result_is_cut(self):
        @tool(effect="none", max_result_chars=10)
        async def read() -> str:
            return "x" * 12_000

        assert results_of(await run(read, call("read"))) == [
            ("ok", f"{'x' * 10}\n[Truncated: 12000 chars total, showing first 10]")
        ]

    async def test_a_result_of_that_length_is_whole(self):
        @tool(effect="none", max_result_chars=10)
        async def read() -> str:
            return "x" * 10

        assert results_of(await run(read, call("read"))) == [("ok", "x" * 10)]


class TestAtOnce:
    @pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (10, 8)])
    async def test_no_more_calls_run_at_once_than_may(self, limit: int, most: int):
        running = 0

        @tool(effect="none")
        async def read(number: int) -> int:
            nonlocal running
            running += 1
            SEEN.append(running)
            await asyncio.sleep(0.01)
            running -= 1
            return number

        events: list[Any] = []
        calls = [call("read", number=number) for number in range(8)]
        result = await run(read, *calls, max_parallel=limit, events=events)
        assert max(SEEN) == most
        assert [content for _, content in results_of(result)] == [str(number) for number in range(8)]
        assert len([event for event in events if isinstance(event, ToolFinished)]) == 8

    async def test_two_hundred_calls_in_one_reply(self):
        @tool(effect="none")
        async def read(number: int) -> int:
            return number

        result = await run(read, *[call("read", number=number) for number in range(200)])
        assert [content for _, content in results_of(result)] == [str(number) for number in range(200)]


class TestBesideOthers:
    """At any moment either all running calls are safe, or exactly one runs."""

    @given(
        plan=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
        limit=st.integers(1, 4),
    )
    @hypothesis_settings(max_examples=40, deadline=None)
    def test_the_rule_holds_at_every_moment(self, plan: list[tuple[bool, int]], limit: int):
        running: list[bool] = []
        seen: list[tuple[bool, ...]] = []

        @tool(effect="idempotent", concurrency_safe=lambda given: given["safe"])
        async def act(safe: bool, turns: int, number: int) -> int:
            running.append(safe)
            seen.append(tuple(running))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.remove(safe)
            return number

        calls = [call("act", safe=safe, turns=turns, number=n) for n, (safe, turns) in enumerate(plan)]
        result = asyncio.run(run(act, *calls, max_parallel=limit))
        assert [content for _, content in results_of(result)] == [str(n) for n in range(len(plan))]
        assert all(all(moment) or len(moment) == 1 for moment in seen)
        assert max(map(len, seen)) <= limit

    async def test_a_function_that_cannot_judge_says_no(self):
        @tool(effect="none", concurrency_safe=lambda given: given["nothing"])
        async def read(number: int) -> int:
            SEEN.append(number)
            await asyncio.sleep(0.01)
            SEEN.append(number)
            return number

        await run(read, call("read", number=1), call("read", number=2))
        assert SEEN == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"retries": 1}, "retries"),
        ({"retries": 1, "effect": "once"}, "retries"),
        ({"retries": -1, "effect": "none"}, "retries"),
        ({"retries": 11, "effect": "none"}, "retries"),
        ({"retry_backoff_s": -1, "effect": "none"}, "retry_backoff_s"),
        ({"max_result_chars": 0}, "max_result_chars"),
        ({"concurrency_safe": "yes"}, "concurrency_safe"),
        ({"validate": "yes"}, "validate"),
        ({"permission": True}, "permission"),
        ({"destructive": True, "effect": "none"}, "destructive"),
        ({"destructive": True, "read_only": True}, "destructive"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], field: str):
    async def act() -> None:
        """Act."""

    with pytest.raises(InvalidInput) as raised:
        tool(**options)(act)
    assert raised.value.field == field


def test_what_people_are_told_of_a_tool():
    @tool(effect="none")
    def read() -> None:
        """Read."""

    @tool(effect="once", destructive=True)
    def wipe() -> None:
        """Wipe."""

    assert (read.behaviour.read_only, read.behaviour.destructive) == (True, False)
    assert (wipe.behaviour.read_only, wipe.behaviour.destructive) == (False, True)


def test_the_limit_of_calls_is_checked():
    with pytest.raises(InvalidInput, match="max_parallel must be at least 1"):
        Agent("a", max_parallel=0)
