"""Asking the hooks of one iteration, and what becomes of what they say, raise or do not say in time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agentq import _json
from agentq.errors import PolicyRefused
from agentq.events.model import RunCancelledEvent, RunCompleted, RunFailedEvent, TextRedacted
from agentq.loop.hooks import HookContext, RunEnd
from agentq.messages import (
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    encode_message,
    neutral,
)
from agentq.providers.base import ModelRequest
from agentq.tools.execution import CallOutcome, refused
from agentq.tools.function import is_async
from agentq.tools.threads import hook_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentq.events.model import Event
    from agentq.loop.hooks import Hooks
    from agentq.loop.writer import StepWriter
    from agentq.runs import RunState, Status

T = TypeVar("T")
logger = logging.getLogger(__name__)


class HookFailed(Exception):
    """A critical hook failed. `is_final`: it refused, so that another try would come to the same."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Policy:
    """The hooks of one run, in the order in which they are asked: each sees what the one before it made of things."""

    def __init__(self, hooks: tuple[Hooks, ...], run: RunState, writer: StepWriter) -> None:
        self._hooks = hooks
        self._run = run
        self._writer = writer

    def has(self, moment: str) -> bool:
        """Whether a hook is to be asked then."""
        return bool(self._hooks) and any(True for _ in self._at(moment))

    # --- the model

    async def before_model(self, request: ModelRequest) -> ModelRequest:
        """The request to send. Raises `HookFailed`."""
        return await self._through("before_model", request, _request) if self._hooks else request

    async def heard(self, reply: Message) -> Message:
        """The reply as it is stored. What was streamed of it is voided where that said something else.

        Raises `HookFailed`.
        """
        if not self._hooks:
            return reply
        stored = await self._through("after_model", reply, _reply)
        if not stored.tool_calls:
            stored = await self._through("on_final_text", stored, _final_text, lambda said: said.text)
        if _spoken(stored) != _spoken(reply):
            await self._writer.void_reply("redacted")
            self._writer.emit(TextRedacted(turn=self._run.turn + 1))
        return stored

    async def left(self, partial: Message | None) -> Message | None:
        """What a cancelled run keeps of a reply; nothing where a critical hook failed."""
        if partial is None:
            return None
        try:
            return await self.heard(partial)
        except HookFailed as error:
            self._warn("nothing is kept of the reply", error)
            await self._writer.void_reply("redacted")
            return None

    # --- tools

    async def before_tool(self, call: ToolCallPart) -> ToolCallPart | CallOutcome:
        """The call to make, or what it gets in place of being made."""
        try:
            for hooks in self._at("before_tool"):
                said: ToolCallPart | CallOutcome | None = await self._ask(
                    hooks, "before_tool", call, take=partial(_call, call)
                )
                if isinstance(said, CallOutcome):
                    return said
                call = call if said is None else said
        except HookFailed as error:
            return replace(refused(call, f"{call.name} was not called: {error}"), raised=True)
        return call

    async def after_tool(self, call: ToolCallPart, outcome: CallOutcome) -> CallOutcome:
        """What came of a call, as it is stored."""
        if not self._hooks:
            return outcome
        result = outcome.result
        try:
            for hooks in self._at("after_tool"):
                result = await self._ask(hooks, "after_tool", call, result, take=partial(_result, result)) or result
        except HookFailed as error:
            text = f"What {call.name} returned is withheld: {error}"
            withheld = result.model_copy(
                update={"content": _json.storable(text), "outcome": "error", "files": (), "data": None}
            )
            return replace(outcome, result=withheld, raised=True, contents={})
        if result is outcome.result:
            return outcome
        kept = {digest: content for digest, content in outcome.contents.items() if digest in _digests(result)}
        return replace(outcome, result=result, contents=kept)

    # --- the end

    async def ended(self, status: Status, closing: tuple[Event, ...]) -> None:
        """Tell that the run has ended; `closing` has the event that says so."""
        if not self.has("on_run_end"):
            return
        for event in closing:
            if isinstance(event, RunCompleted | RunFailedEvent | RunCancelledEvent):
                end = RunEnd(
                    status=status,
                    output=event.output if isinstance(event, RunCompleted) else "",
                    reason="" if isinstance(event, RunCompleted) else event.reason,
                    usage=event.usage,
                    iterations=event.iterations,
                )
                for hooks in self._at("on_run_end"):
                    await self._ask(hooks, "on_run_end", end, take=lambda _: None, is_critical=False)

    # --- asking

    def _at(self, moment: str) -> Iterator[Hooks]:
        return (hooks for hooks in self._hooks if getattr(hooks, moment) is not None)

    async def _through(
        self, moment: str, value: T, take: Callable[[T, Any], T], shown: Callable[[T], Any] = lambda value: value
    ) -> T:
        """What the hooks make of a value, one after the other."""
        for hooks in self._at(moment):
            taken = await self._ask(hooks, moment, shown(value), take=partial(take, value))
            value = value if taken is None else taken
        return value

    async def _ask(
        self, hooks: Hooks, moment: str, *given: Any, take: Callable[[Any], T | None], is_critical: bool | None = None
    ) -> T | None:
        """What `take` makes of what the hook says; None for "as it is", and where it failed. Raises `HookFailed`."""
        function = getattr(hooks, moment)
        context = HookContext(
            run_id=self._run.run_id,
            agent=self._run.agent,
            iteration=self._run.iteration + 1,
            session_id=self._run.session_id,
            user_id=self._run.user_id,
            metadata=self._run.metadata,
        )
        try:
            said = await self._in_time(function, hooks.timeout, context, *given)
            return None if said is None else take(said)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            problem: BaseException = error  # nobody cancelled us: the hook awaited something that was cancelled
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a hook may raise anything
            problem = error
        name = f"{moment} ({getattr(function, '__qualname__', None) or type(function).__name__})"
        if hooks.critical if is_critical is None else is_critical:
            is_final = isinstance(problem, PolicyRefused)
            why = str(problem) if is_final else f"the hook {name} failed: {_words(problem)}"
            raise HookFailed(why, is_final=is_final) from problem
        self._warn(f"the hook {name} failed, and the run goes on without it", problem)
        return None

    async def _in_time(self, function: Callable[..., Any], timeout_s: float, *given: Any) -> Any:
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                if is_async(function):
                    return await function(*given)
                said = await hook_pool.run(lambda: function(*given), abandoned=lambda: None)
                return await said if inspect.isawaitable(said) else said
        except TimeoutError:
            if not limit.expired():  # the hook's own
                raise
            raise TimeoutError(f"it took longer than {timeout_s:g} s") from None

    def _warn(self, what: str, error: BaseException) -> None:
        extra = {"run_id": self._run.run_id}
        logger.warning("run %s: %s: %s", self._run.run_id, what, _words(error), exc_info=error, extra=extra)


def _words(error: BaseException) -> str:
    text = str(error)
    name = type(error).__name__
    return text if isinstance(error, HookFailed) else _json.storable(f"{name}: {text}" if text else name)


def _spoken(message: Message) -> tuple[str, str]:
    """What viewers were shown of a reply."""
    return message.text, "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))


def _request(_: ModelRequest, said: Any) -> ModelRequest:
    if not isinstance(said, ModelRequest):
        raise TypeError(f"it returned {type(said).__name__}, not a ModelRequest or None")
    return said


def _reply(reply: Message, said: Any) -> Message:
    """Who said it and what it took stays as it was."""
    if not isinstance(said, Message) or said.role is not Role.ASSISTANT:
        raise TypeError(f"it returned {type(said).__name__}, not a reply (a Message of the assistant) or None")
    asked = [call.call_id for call in reply.tool_calls]
    left = [call.call_id for call in said.tool_calls]
    if len(set(left)) < len(left) or not set(left) <= set(asked):
        raise ValueError("it returned calls that the model did not ask for")
    stored = said.model_copy(update={"usage": reply.usage, "model": reply.model})
    encode_message(stored)
    return stored


def _final_text(reply: Message, said: Any) -> Message:
    """The reply with that text. What the provider sent along, and the model's thoughts, may say the same as before."""
    if not isinstance(said, str):
        raise TypeError(f"it returned {type(said).__name__}, not a text or None")
    if said == reply.text:
        return reply
    others = tuple(part for part in neutral(reply).parts if not isinstance(part, TextPart | ReasoningPart))
    parts = (*others, TextPart(text=_json.storable(said)))
    return reply.model_copy(update={"parts": parts, "origin": None})


def _call(call: ToolCallPart, said: Any) -> ToolCallPart | CallOutcome:
    if said is False or isinstance(said, str):
        return refused(call, f"{call.name} was denied: {said}" if said else f"{call.name} was denied")
    if not isinstance(said, Mapping):
        raise TypeError(f"it returned {type(said).__name__}, not arguments, a reason, False or None")
    return call.model_copy(update={"arguments": _json.checked(dict(said), field="arguments")})


def _result(result: ToolResultPart, said: Any) -> ToolResultPart:
    """A text takes the place of the data, too, which mostly says the same."""
    if isinstance(said, str):
        return result.model_copy(update={"content": _json.storable(said), "data": None})
    if not isinstance(said, ToolResultPart):
        raise TypeError(f"it returned {type(said).__name__}, not a text, a ToolResultPart or None")
    same = {name: getattr(result, name) for name in ("call_id", "name", "provider_call_id")}
    stored = said.model_copy(update=same)
    encode_message(Message(role=Role.TOOL, parts=(stored,)))
    return stored


def _digests(result: ToolResultPart) -> set[str | None]:
    return {file.digest for file in result.files}
