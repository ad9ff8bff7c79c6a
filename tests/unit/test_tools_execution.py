"""`execute_call` turns whatever a tool does into a result; `batches` says what may run at once."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator

from agentq.errors import InvalidArguments, ToolError
from agentq.messages import Message, Role, ToolCallPart, decode_message, encode_message
from agentq.tools.batching import batches
from agentq.tools.context import ToolContext
from agentq.tools.execution import CallOutcome, execute_call
from agentq.tools.function import Tool, tool
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.tools.behaviour import Effect

NO_PARAMETERS: dict[str, Any] = {"type": "object"}
TWO_NUMBERS: dict[str, Any] = {"a": 7, "b": 9}


def make_call(name: str = "act", arguments: dict[str, Any] | None = None, **more: Any) -> ToolCallPart:
    return ToolCallPart(call_id="R.1.0", name=name, arguments=arguments or {}, provider_call_id="p1", **more)


def make_context(**more: Any) -> ToolContext:
    return ToolContext(run_id="R", call_id="R.1.0", idempotency_key="R.1.0", **more)


async def outcome_of(function: Callable[..., Any], *, timeout: float | None = None, **arguments: Any) -> CallOutcome:
    """Execute `function` as a tool named act."""
    schema = {"type": "object", "properties": {name: {} for name in arguments}}
    return await execute_call(
        Tool("act", "", schema, function, timeout=timeout), make_call(arguments=arguments), make_context()
    )


@tool
async def add_async(a: float, b: float) -> float:
    return a + b


@tool
def add_sync(a: float, b: float) -> float:
    return a + b


@pytest.mark.parametrize("add", [add_async, add_sync])
async def test_a_value_becomes_a_result(add: Tool):
    outcome = await execute_call(add, make_call(add.name, {"a": 7, "b": "9"}), make_context())
    result = outcome.result
    assert (result.content, result.outcome, outcome.raised) == ("16", "ok", False)
    assert (result.call_id, result.name, result.provider_call_id) == ("R.1.0", add.name, "p1")
    assert not result.is_error
    assert 0 <= outcome.duration_ms < 10_000


@pytest.mark.parametrize(
    ("made", "call", "known", "content"),
    [
        (None, make_call("plus"), ["add", "sub"], "There is no tool named plus; there are: add, sub"),
        (None, make_call("plus"), [], "There is no tool named plus; use none"),
        (
            add_async,
            make_call("add_async", TWO_NUMBERS, arguments_error="line 1: expected }"),
            [],
            "The arguments of add_async are not valid: line 1: expected }",
        ),
        (
            add_async,
            make_call("add_async", {"a": 7}),
            [],
            "The arguments do not fit add_async:\nb: Field required",
        ),
    ],
)
async def test_an_unfit_call_is_told_to_the_model_and_is_no_failure_of_the_tool(
    made: Tool | None, call: ToolCallPart, known: list[str], content: str
):
    outcome = await execute_call(made, call, make_context(), known=known)
    assert outcome.result.content == content
    assert (outcome.result.outcome, outcome.raised) == ("error", False)
    assert outcome.result.call_id == call.call_id


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


FAILURES = [
    (ValueError("no such city"), "ValueError: no such city"),
    (ValueError(), "ValueError"),
    (KeyError("oslo"), "KeyError: 'oslo'"),
    (ToolError("Ask for another city."), "Ask for another city."),
    (InvalidArguments("city: try another"), "city: try another"),
    (MuteError(), "MuteError"),
    (TimeoutError("the server is slow"), "TimeoutError: the server is slow"),
    (asyncio.CancelledError(), "CancelledError"),
    (
        ExceptionGroup("both", [ValueError("a"), ToolError("b")]),
        "ExceptionGroup: both (2 sub-exceptions): ValueError: a; b",
    ),
    (RecursionError("too deep"), "RecursionError: too deep"),
]


@pytest.mark.parametrize("timeout", [None, 60])
@pytest.mark.parametrize(("error", "content"), FAILURES)
async def test_whatever_a_tool_raises_becomes_an_error_result(
    error: BaseException, content: str, timeout: float | None
):
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    for function in (fail, fail_async):
        outcome = await outcome_of(function, timeout=timeout)
        assert outcome.result.content == content
        assert (outcome.result.outcome, outcome.raised) == ("error", True)


async def test_stop_iteration_does_not_hang_the_loop():
    def stop() -> Any:
        return next(iter(()))

    async def stop_async() -> Any:
        return next(iter(()))

    assert (await outcome_of(stop)).result.content == "RuntimeError: the function raised StopIteration"
    assert (await outcome_of(stop_async)).result.content == "RuntimeError: coroutine raised StopIteration"


async def test_awaiting_something_that_was_cancelled_is_a_failure_of_the_tool():
    async def act() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    outcome = await outcome_of(act)
    assert (outcome.result.content, outcome.raised) == ("CancelledError", True)


async def test_a_tool_that_wants_to_exit_has_failed_and_ends_nothing():
    def leave() -> None:
        raise SystemExit(2)

    async def leave_async() -> None:
        raise SystemExit(2)

    for function in (leave, leave_async):
        outcome = await outcome_of(function)
        assert (outcome.result.content, outcome.result.outcome, outcome.raised) == ("SystemExit: 2", "error", True)


@pytest.mark.parametrize("error", [KeyboardInterrupt])
async def test_the_end_of_the_process_is_not_held_up(error: type[BaseException]):
    def leave() -> None:
        raise error

    async def leave_async() -> None:
        raise error

    for function in (leave, leave_async):
        with pytest.raises(error):
            await outcome_of(function)


async def test_a_result_without_a_json_form_is_a_failure_of_the_tool():
    outcome = await outcome_of(object)
    assert outcome.result.content.startswith("the tool returned object that cannot be serialised")
    assert outcome.raised


async def test_a_validator_that_breaks_is_a_failure_of_the_tool():
    def explode(value: int) -> int:
        raise ZeroDivisionError

    def act(a): ...

    act.__annotations__ = {"a": Annotated[int, AfterValidator(explode)]}
    outcome = await execute_call(tool(act), make_call(arguments={"a": 1}), make_context())
    assert (outcome.result.content, outcome.raised) == ("ZeroDivisionError", True)


async def test_a_text_that_is_not_unicode_can_still_be_stored(caplog: pytest.LogCaptureFixture):
    def fail() -> None:
        raise OSError("caf\udce9")

    # pytest-xdist cannot send a report with the traceback's lone surrogate.
    caplog.set_level(logging.CRITICAL, logger="agentq.tools.execution")
    value, error = await outcome_of(lambda: "caf\udce9 \u00e9"), await outcome_of(fail)
    assert (value.result.content, error.result.content) == ("caf? \u00e9", "OSError: caf?")
    message = Message(role=Role.TOOL, parts=(value.result, error.result))
    assert decode_message(encode_message(message)) == message


async def test_a_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture):
    def act() -> None:
        raise ValueError("no such city")

    await outcome_of(act)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "tool act failed: ValueError: no such city")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert (vars(record)["run_id"], vars(record)["call_id"]) == ("R", "R.1.0")


async def test_what_a_tool_has_to_say_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture):
    def act() -> None:
        raise ToolError("ask for a city first")

    await outcome_of(act)
    (record,) = caplog.records
    assert (record.message, record.exc_info) == ("tool act failed: ask for a city first", None)


async def test_an_unfit_call_is_not_logged(caplog: pytest.LogCaptureFixture):
    await execute_call(None, make_call(), make_context())
    assert not caplog.records


async def test_a_plain_function_may_return_an_awaitable():
    async def add(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert (await outcome_of(functools.wraps(add)(lambda a: add(a)), a=1)).result.content == "2"  # noqa: PLW0108


async def test_the_tool_gets_its_context():
    contexts = []

    @tool
    async def act(ctx: ToolContext, a: int) -> int:
        contexts.append(ctx)
        return a

    @tool
    def act_sync(a: int, *, call: ToolContext) -> int:
        contexts.append(call)
        return a

    ctx = make_context()
    for each in (act, act_sync):
        assert (await execute_call(each, make_call(arguments={"a": 1}), ctx)).result.content == "1"
    assert contexts == [ctx, ctx]


# Timeout and cancellation.


async def test_an_async_tool_that_takes_too_long_is_stopped():
    steps = []

    @tool(timeout=0.01)
    async def count(ctx: ToolContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned up")

    ctx = make_context()
    outcome = await execute_call(count, make_call("count"), ctx)
    assert (outcome.result.content, outcome.raised) == ("count did not finish within 0.01 s", True)
    assert steps == ["cleaned up"]
    assert ctx.cancelled
    assert outcome.duration_ms >= 10


async def test_a_tool_that_ends_in_spite_of_its_timeout_has_its_result():
    async def act() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return ""

    assert (await outcome_of(act, timeout=0.01)).result.content == "saved"


async def test_a_sync_tool_that_takes_too_long_is_left_to_itself(caplog: pytest.LogCaptureFixture):
    stopped = threading.Event()

    @tool(timeout=0.05)
    def count(ctx: ToolContext) -> None:
        if ctx.cancel_event.wait(30) and ctx.cancelled:
            stopped.set()

    outcome = await execute_call(count, make_call("count"), make_context())
    assert (outcome.result.content, outcome.raised) == ("count did not finish within 0.05 s", True)
    assert "tool count goes on in its thread, its result will be dropped" in caplog.messages
    await wait_until(stopped.is_set)


async def test_cancelling_the_task_cancels_an_async_tool():
    entered = asyncio.Event()

    @tool(timeout=60)
    async def wait() -> None:
        entered.set()
        await asyncio.Event().wait()

    ctx = make_context()
    task = asyncio.create_task(execute_call(wait, make_call("wait"), ctx))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert ctx.cancelled


async def test_cancelling_the_task_does_not_wait_for_a_thread(caplog: pytest.LogCaptureFixture):
    entered, release, stopped = threading.Event(), threading.Event(), threading.Event()

    @tool
    def wait(ctx: ToolContext) -> None:
        entered.set()
        release.wait(30)
        if ctx.cancelled:
            stopped.set()

    ctx = make_context()
    task = asyncio.create_task(execute_call(wait, make_call("wait"), ctx))
    await wait_until(entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ctx.cancelled
    assert "tool wait goes on in its thread, its result will be dropped" in caplog.messages
    release.set()
    await wait_until(stopped.is_set)


async def test_a_task_that_was_cancelled_before_it_began_stops_at_the_first_wait():
    async def act() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    task = asyncio.create_task(outcome_of(act))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_the_call_is_not_the_tools_failure():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await outcome_of(asyncio.Event().wait)


async def test_a_tool_that_finishes_in_spite_of_a_cancel_has_its_result():
    entered = asyncio.Event()

    async def pay() -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "paid"
        return ""

    task = asyncio.create_task(outcome_of(pay))
    await entered.wait()
    task.cancel()
    assert (await task).result.content == "paid"


# Batches.


def names(calls: tuple[ToolCallPart, ...]) -> str:
    return "".join(call.name for call in calls)


EFFECTS: dict[str, Effect] = {"r": "none", "s": "none", "i": "idempotent", "o": "once"}


def effect_of(call: ToolCallPart) -> Effect:
    return EFFECTS[call.name]


def only_reads(call: ToolCallPart) -> bool:
    return effect_of(call) == "none"


@pytest.mark.parametrize(
    ("calls", "groups"),
    [
        ("", []),
        ("r", ["r"]),
        ("rsr", ["rsr"]),
        ("o", ["o"]),
        ("oo", ["o", "o"]),
        ("io", ["i", "o"]),
        ("rrorr", ["rr", "o", "rr"]),
        ("orsii", ["o", "rs", "i", "i"]),
    ],
)
def test_neighbours_that_only_read_share_a_group(calls: str, groups: list[str]):
    assert [names(group) for group in batches([make_call(name) for name in calls], only_reads)] == groups


@given(st.lists(st.sampled_from(sorted(EFFECTS))))
def test_groups_keep_the_order_and_isolate_effects(calls: list[str]):
    """Nothing is lost or moved, a call with an effect is alone, and no group could be longer."""
    parts = [ToolCallPart(call_id=str(index), name=name) for index, name in enumerate(calls)]
    groups = list(batches(parts, only_reads))
    assert [call for group in groups for call in group] == parts
    reads = [all(effect_of(call) == "none" for call in group) for group in groups]
    assert all(len(group) == 1 or reading for group, reading in zip(groups, reads, strict=True))
    assert not any(left and right for left, right in itertools.pairwise(reads))
