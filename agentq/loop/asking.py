"""Asking the model for one reply: which model, what it is sent, and what viewers hear while it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

from agentq import _json
from agentq.context.sections import Instructions
from agentq.errors import ProviderError
from agentq.events.model import ModelReplaced, ModelRetried, ReasoningDelta, TextDelta
from agentq.messages import Message, ReasoningPart, Role, StopReason, TextPart
from agentq.providers.base import (
    ModelRequest,
    OutputFormat,
    ReasoningChunk,
    Retried,
    TextChunk,
    ToolCallChunk,
    promises_output,
    result_media_types_of,
)
from agentq.providers.prices import priced
from agentq.providers.reply import ReplyBuilder, storable

if TYPE_CHECKING:
    from agentq.loop.agent import Agent
    from agentq.loop.briefing import Briefing
    from agentq.loop.calls import Calls
    from agentq.loop.loop import Loop
    from agentq.loop.policy import Policy
    from agentq.loop.writer import StepWriter
    from agentq.providers.base import Provider
    from agentq.runs import RunState

# A model that is in trouble although it was asked again and again is left in peace so long, if there is another.
_REST_S = 30.0


class Asking:
    """Asks for one reply of a run. `run` is what the run's state is now; `calls` may begin while the model streams."""

    def __init__(
        self,
        loop: Loop,
        agent: Agent,
        calls: Calls,
        briefing: Briefing,
        run: RunState,
        writer: StepWriter,
        policy: Policy,
    ) -> None:
        self._loop = loop
        self._agent = agent
        self._calls = calls
        self._run = run
        self._writer = writer
        self._briefing = briefing
        self._policy = policy
        self._builder = ReplyBuilder()
        self._instructions = Instructions()

    async def reply(self) -> Message:
        """The reply of the first model that gives one, as it is stored. A run that names a model has no other.

        Raises what the last of them raised, or what an earlier one did where only that may pass: a run can wait for it.
        Raises `ContextError` where the instructions cannot be put together, and then asks none; and `HookFailed`.
        """
        self._instructions = await self._briefing.instructions(self._run, self._calls.toolbox.specs)
        models = (self._run.model,) if self._run.model else self._agent.models
        models = self._loop.resting.last(models)
        passing: ProviderError | None = None
        for model, following in zip(models, (*models[1:], None), strict=True):
            try:
                return await self._policy.heard(await self._ask(model))
            except ProviderError as error:
                if following is None:
                    if passing is None or error.retryable:
                        raise
                    raise _with_another(passing, model, error) from error
                if passing is None and error.retryable:
                    passing = error
                await self._turn_to(following, model, error)
        raise AssertionError("an agent has a model")  # pragma: no cover

    def partial(self) -> Message | None:
        """What the model had said when it was stopped; a cancelled run keeps it."""
        text, reasoning = self._builder.text, self._builder.reasoning
        if not text:
            return None
        thoughts = (ReasoningPart(text=reasoning),) if reasoning else ()
        parts = (*thoughts, TextPart(text=text))
        return Message(role=Role.ASSISTANT, parts=parts, stop_reason=StopReason.CANCELLED)

    async def _turn_to(self, following: str, model: str, error: ProviderError) -> None:
        self._builder = ReplyBuilder()
        await self._calls.void()
        # What is wrong with one request, such as a file that the model does not take, is no matter of other runs.
        if error.retryable:
            self._loop.resting.add(model, _REST_S)
        await self._writer.void_reply("model_replaced")
        self._writer.emit(ModelReplaced(model=model, by=following, reason=_json.storable(str(error))))

    async def _ask(self, model: str) -> Message:
        provider, name = self._loop.provider(model)
        stream = provider.stream(await self._policy.before_model(await self._request(provider, name, model)))
        try:
            async for given in stream:
                chunk = storable(given)
                self._builder.add(chunk)
                if isinstance(chunk, TextChunk):
                    if chunk.text:
                        self._writer.emit_text(TextDelta, chunk.text)
                elif isinstance(chunk, ReasoningChunk):
                    if chunk.text:
                        self._writer.emit_text(ReasoningDelta, chunk.text)
                elif isinstance(chunk, ToolCallChunk):
                    for call in self._builder.whole_calls(self._run.run_id, self._run.turn + 1):
                        self._calls.begin(call)
                elif isinstance(chunk, Retried):
                    await self._tell_of_retry(model, chunk)
        finally:
            # A generator that is left early would keep its connection until it is collected.
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        return priced(self._builder.finish(self._run.run_id, self._run.turn + 1), provider.name, name)

    async def _tell_of_retry(self, model: str, chunk: Retried) -> None:
        await self._calls.void()
        await self._writer.void_reply("model_retried")
        wait_ms = round(chunk.wait_s * 1000)
        self._writer.emit(ModelRetried(model=model, attempt=chunk.attempt, wait_ms=wait_ms, reason=chunk.error))

    async def _request(self, provider: Provider, name: str, model: str) -> ModelRequest:
        agent = self._agent
        shown = self._briefing.shown()
        messages, are_whole = shown.messages, not shown.whole
        output, settings, files = agent.output, agent.settings_of(model), self._loop.files
        taken = result_media_types_of(provider, settings)
        request = ModelRequest(
            name,
            files.shown(self._run.run_id, messages, taken, are_whole=are_whole),
            history_length=shown.history_length,
            whole=shown.whole,
            files=await files.of(self._run.run_id, messages, provider, model, taken=taken, are_whole=are_whole),
            instructions=self._instructions.text,
            stable=self._instructions.stable,
            tools=self._calls.toolbox.specs,
            settings=settings,
            output=None if output is None else OutputFormat(output.name, output.schema),
            run_id=self._run.run_id,
            session_id=self._run.session_id,
        )
        if output is not None and not promises_output(provider, request):
            told = self._instructions.with_static(output.in_words)
            request = replace(request, instructions=told.text, stable=told.stable)
        return request


def _with_another(error: ProviderError, model: str, other: ProviderError) -> ProviderError:
    """The error, whose words name the other one too, which `model` gave."""
    return ProviderError(
        f"{error}; and {model} failed: {other}",
        provider=error.provider,
        status=error.status,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        code=error.code,
        request_id=error.request_id,
    )
