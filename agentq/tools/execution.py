"""From a tool call to its result, whatever the tool does.

No journal, no retries, no events: those are the loop's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from agentq import _json
from agentq.errors import InvalidArguments, InvalidInput, ToolError
from agentq.messages import ToolCallPart, ToolResultPart
from agentq.settings import Settings
from agentq.tools.behaviour import Permission, Reconciled
from agentq.tools.function import Tool, is_async
from agentq.tools.results import Returned, returned
from agentq.tools.state import Scope
from agentq.tools.threads import pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from agentq.tools.context import ToolContext

_logger = logging.getLogger(__name__)
T = TypeVar("T")
DEFAULTS = Settings()


Changes = tuple[tuple[Scope, str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call went. `raised` is True where the tool itself failed, not where the call was unfit for it.

    `entered` is False where the tool was not called at all. `changes` are what it changed in `ctx.state`: whose it is,
    the name, and the value, None for one that was deleted. `contents` are those of files that the result refers to, by
    digest.
    """

    result: ToolResultPart
    raised: bool
    duration_ms: int
    entered: bool = True
    changes: Changes = ()
    is_fault: bool = False
    contents: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why there is no value: in words for the model."""

    content: str
    raised: bool
    entered: bool = True
    is_fault: bool = False


class _CallRefused(Exception):
    """The tool was not entered: mostly the call is unfit. `raised` is as in `CallOutcome`."""

    def __init__(self, message: str, *, raised: bool = False) -> None:
        super().__init__(message)
        self.raised = raised


class _TookTooLong(ToolError):
    """The tool did not finish in time."""


class CallWithdrawn(Exception):
    """The call was not allowed to start any more, and did not."""


async def execute_call(
    tool: Tool | None,
    call: ToolCallPart,
    ctx: ToolContext,
    *,
    known: Iterable[str] = (),
    may_start: Callable[[], bool] = lambda: True,
    arguments: Mapping[str, Any] | None = None,
    may_retry: Callable[[], bool] = lambda: True,
    limits: Settings = DEFAULTS,
) -> CallOutcome:
    """Run one call and return what became of it; `known` are the names to offer where there is no such tool.

    `arguments` are those that `check_call` found good; without them they are bound here. A tool with `retries` is
    entered again where it failed, as long as `may_retry` says so. `limits` say how large files may be.

    Whatever goes wrong is an error result for the model to read; only the cancellation of this task, KeyboardInterrupt
    and their like are raised. A synchronous tool runs in a thread. A thread cannot be stopped: on timeout or
    cancellation `ctx.cancelled` becomes true and nobody waits for it any more. `may_start` is asked right before the
    tool is entered, in its thread, which it may have waited for: if not, `CallWithdrawn` is raised.
    """
    started = time.monotonic()
    made = await _or_failed(_made(tool, call, ctx, known, may_start, arguments, may_retry, limits), call, ctx)
    if isinstance(made, _Failed):
        failed = _outcome(call, Returned(made.content), started, "error", raised=made.raised, entered=made.entered)
        return replace(failed, is_fault=made.is_fault)
    came, changes = made
    return _outcome(call, came, started, changes=changes)


async def _or_failed(work: Awaitable[T], call: ToolCallPart, ctx: ToolContext) -> T | _Failed:
    """What `work` returns, or why it did not. Raises only what is not the tool's: see `execute_call`."""
    try:
        return await work
    except _CallRefused as refused:
        # The words may be those of a hook, which has the secrets.
        return _Failed(ctx.secrets.redact(str(refused)), raised=refused.raised, entered=False)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            ctx.cancel_event.set()
            raise
        # Nobody cancelled this task: the tool awaited something that was cancelled, or raised it by hand.
        return _Failed(_failure(error, call, ctx), raised=True, is_fault=True)
    except CallWithdrawn:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool may raise anything, and the model is told
        is_fault = isinstance(error, _TookTooLong) or not isinstance(error, ToolError)
        return _Failed(_failure(error, call, ctx), raised=True, is_fault=is_fault)


class AskFirst:
    """A person has to allow the call."""


def refused(call: ToolCallPart, why: str, *, raised: bool = False) -> CallOutcome:
    """The outcome of a call that is not made."""
    return _outcome(call, Returned(why), time.monotonic(), "error", raised=raised, entered=False)


def bound_or_outcome(tool: Tool, call: ToolCallPart, ctx: ToolContext) -> dict[str, Any] | CallOutcome:
    """The arguments of the call, or its outcome where they do not fit."""
    try:
        return _bound(tool, call, ctx)
    except _CallRefused as error:
        return refused(call, str(error), raised=error.raised)


def _outcome(
    call: ToolCallPart,
    came: Returned,
    started: float,
    outcome: Literal["ok", "error"] = "ok",
    *,
    raised: bool = False,
    entered: bool = True,
    changes: Changes = (),
) -> CallOutcome:
    result = ToolResultPart(
        call_id=call.call_id,
        name=call.name,
        content=_json.storable(came.content),
        outcome=outcome,
        files=came.files,
        data=came.data,
        provider_call_id=call.provider_call_id,
    )
    duration_ms = round((time.monotonic() - started) * 1000)
    return CallOutcome(result, raised, duration_ms, entered, changes, contents=came.contents)


async def check_call(
    tool: Tool, call: ToolCallPart, ctx: ToolContext, *, was_permitted: bool = False
) -> dict[str, Any] | AskFirst | CallOutcome:
    """Ask the tool's `validate` and `permission` hooks: the arguments to call it with, or why it is not called.

    A call that `was_permitted` has begun before, and is not asked for again. A hook that fails refuses the call, and
    the log says why.
    """
    started = time.monotonic()
    checked = await _or_failed(_checked(tool, call, ctx, was_permitted=was_permitted), call, ctx)
    if not isinstance(checked, _Failed):
        return checked
    content = f"{call.name} was not called: {checked.content}" if checked.raised else checked.content
    return _outcome(call, Returned(content), started, "error", raised=checked.raised, entered=False)


async def _validated(tool: Tool, call: ToolCallPart, ctx: ToolContext) -> dict[str, Any]:
    """The arguments that the function gets."""
    arguments = _bound(tool, call, ctx)
    validate = tool.behaviour.validate
    if validate is not None:
        try:
            corrected = await _in_time(tool, lambda: validate(ctx, dict(arguments)), ctx, is_async=is_async(validate))
        except (ValueError, ToolError) as error:
            raise _CallRefused(f"{call.name} was not called: {error}") from error
        if corrected is not None:
            arguments = dict(corrected)
    return arguments


async def _checked(
    tool: Tool, call: ToolCallPart, ctx: ToolContext, *, was_permitted: bool
) -> dict[str, Any] | AskFirst:
    arguments = await _validated(tool, call, ctx)
    permission = tool.behaviour.permission
    if permission is not None and not was_permitted:
        said = await _in_time(tool, lambda: permission(ctx, dict(arguments)), ctx, is_async=is_async(permission))
        if said is Permission.ASK:
            return AskFirst()
        if isinstance(said, str):
            raise _CallRefused(f"{call.name} was denied: {said}")
        if said is not True and said is not Permission.ALLOW:
            raise _CallRefused(f"{call.name} was denied")
    return arguments


def _bound(tool: Tool, call: ToolCallPart, ctx: ToolContext) -> dict[str, Any]:
    missing = [name for name in tool.behaviour.secrets if name not in ctx.secrets]
    if missing:
        why = f"{call.name} was not called: its secret {missing[0]} is not set here"
        _logger.error(why, extra={"run_id": ctx.run_id, "call_id": ctx.call_id})
        raise _CallRefused(why, raised=True)
    if call.arguments_error is not None:
        raise _CallRefused(f"The arguments of {call.name} are not valid: {call.arguments_error}")
    try:
        return tool.bind(call.arguments)
    except InvalidArguments as error:
        raise _CallRefused(f"The arguments do not fit {call.name}:\n{error}") from error


async def _made(
    tool: Tool | None,
    call: ToolCallPart,
    ctx: ToolContext,
    known: Iterable[str],
    may_start: Callable[[], bool],
    given: Mapping[str, Any] | None,
    may_retry: Callable[[], bool],
    limits: Settings,
) -> tuple[Returned, Changes]:
    if tool is None:
        names = ", ".join(known)
        raise _CallRefused(f"There is no tool named {call.name}; " + (f"there are: {names}" if names else "use none"))
    arguments = dict(given) if given is not None else _bound(tool, call, ctx)
    pause_s = tool.behaviour.retry_backoff_s
    for again in range(tool.behaviour.retries + 1):
        try:
            value, entered = await _entered(tool, arguments, ctx, may_start if again == 0 else may_retry, again)
        except Exception as error:
            if again == tool.behaviour.retries or not _is_worth_another_try(tool, error) or not may_retry():
                raise
            _logger.info(
                "tool %s failed, and is called again: %s",
                tool.name,
                ctx.secrets.redact(_words(error)),
                extra={"run_id": ctx.run_id, "call_id": ctx.call_id},
            )
        else:
            return await returned(value, limits, ctx.secrets), _changes(entered)
        await asyncio.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("a tool is entered at least once")  # pragma: no cover


def _is_worth_another_try(tool: Tool, error: Exception) -> bool:
    """What a tool says by `ToolError` is its answer. A thread that took too long still runs, and must not run twice."""
    if isinstance(error, _TookTooLong):
        return tool.is_async
    return not isinstance(error, ToolError | CallWithdrawn)


async def _entered(
    tool: Tool, arguments: Mapping[str, Any], ctx: ToolContext, may_start: Callable[[], bool], again: int
) -> tuple[Any, ToolContext]:
    """What the tool returns, and the context that it had."""
    keywords = dict(arguments)
    if tool.context_parameter is not None:
        if again:
            ctx.cancel_event.clear()  # set where the time was up
            ctx = replace(ctx, attempt=ctx.attempt + again, state=ctx.state.unread())
        keywords[tool.context_parameter] = ctx

    def enter() -> Any:
        if not may_start():
            raise CallWithdrawn
        return tool.function(**keywords)

    return await _in_time(tool, enter, ctx, is_async=tool.is_async), ctx


def _changes(ctx: ToolContext) -> Changes:
    scopes = ctx.state.scopes
    try:
        return tuple((scope, name, value) for scope, values in scopes for name, value in values.changes().items())
    except InvalidInput as error:
        raise ToolError(f"the tool has run, but what it keeps cannot be stored: {error}") from error


async def reconcile_call(
    tool: Tool, call: ToolCallPart, ctx: ToolContext, limits: Settings = DEFAULTS
) -> CallOutcome | Reconciled:
    """Ask the tool's `reconcile` hook what became of a call that had started; without one, nobody knows.

    A hook that fails or takes longer than the tool may knows nothing either, and the log says why.
    """
    if tool.reconcile is None:
        return Reconciled.UNKNOWN
    started = time.monotonic()
    hook = tool.reconcile
    try:
        arguments = await _validated(tool, call, ctx)
        found = await _in_time(tool, lambda: hook(ctx, arguments), ctx, is_async=is_async(hook))
        if isinstance(found, Reconciled):
            return found
        came = await returned(found, limits, ctx.secrets)
    except (Exception, SystemExit) as error:
        _logger.warning(
            "tool %s could not find out what became of its call: %s",
            tool.name,
            ctx.secrets.redact(_words(error)),
            exc_info=None if ctx.secrets else error,
            extra={"run_id": ctx.run_id, "call_id": ctx.call_id},
        )
        return Reconciled.UNKNOWN
    return _outcome(call, came, started)


async def _in_time(tool: Tool, enter: Callable[[], Any], ctx: ToolContext, *, is_async: bool) -> Any:
    if tool.timeout_s is None:
        return await _value(tool, enter, ctx, is_async=is_async)
    limit = asyncio.timeout(tool.timeout_s)
    try:
        async with limit:
            return await _value(tool, enter, ctx, is_async=is_async)
    except TimeoutError:
        if not limit.expired():  # the tool's own
            raise
        ctx.cancel_event.set()
        raise _TookTooLong(f"{tool.name} did not finish within {tool.timeout_s:g} s") from None


async def _value(tool: Tool, enter: Callable[[], Any], ctx: ToolContext, *, is_async: bool) -> Any:
    if is_async:
        return await enter()

    def abandoned() -> None:
        ctx.cancel_event.set()
        _logger.warning(
            "tool %s goes on in its thread, its result will be dropped",
            tool.name,
            extra={"run_id": ctx.run_id, "call_id": ctx.call_id},
        )

    value = await pool.run(enter, abandoned=abandoned)
    # A plain function may wrap an async one: a decorator, a partial, a lambda.
    return await value if inspect.isawaitable(value) else value


def _failure(error: BaseException, call: ToolCallPart, ctx: ToolContext) -> str:
    words = ctx.secrets.redact(_words(error))
    extra = {"run_id": ctx.run_id, "call_id": call.call_id}
    # A ToolError is what the tool had to say; anything else is news for whoever wrote it.
    if isinstance(error, ToolError):
        _logger.warning("tool %s failed: %s", call.name, words, extra=extra)
    elif ctx.secrets:
        trace = ctx.secrets.redact("".join(traceback.format_exception(error)).rstrip())
        _logger.warning("tool %s failed: %s\n%s", call.name, words, trace, extra=extra)
    else:
        _logger.warning("tool %s failed: %s", call.name, words, exc_info=error, extra=extra)
    return words


def _words(error: BaseException) -> str:
    """What the model reads about an exception: a ToolError's own words, else type and message."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the exception is the user's, and so is its __str__
        text = ""
    if isinstance(error, ToolError) and text:
        return text
    if isinstance(error, ExceptionGroup):
        text += ": " + "; ".join(_words(each) for each in error.exceptions)
    name = type(error).__name__
    return f"{name}: {text}" if text else name
