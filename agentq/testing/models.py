"""A scripted model for tests of your own agents: it replies what the test says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from agentq import _json
from agentq.errors import ProviderError
from agentq.messages import Message, NoteKind, ReasoningPart, Role, StopReason, TextPart, ToolCallPart, Usage
from agentq.providers.base import Chunk, ModelRequest, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk
from agentq.providers.mock import is_refusal, since_prompt, split_words


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call as the model sends it: `arguments` is JSON text, which may be broken on purpose."""

    name: str
    arguments: str = ""
    provider_call_id: str | None = None


def call(name: str, /, **arguments: Any) -> ScriptedCall:
    """A tool call: `call("add_numbers", a=7, b=9)`."""
    return ScriptedCall(name, _json.dumps(arguments).decode())


# A reply, or what it is made of in order: text, calls and an exception that cuts it off.
Piece = str | ScriptedCall | BaseException
Reply = Piece | Message | Sequence[Piece]


class ScriptedModel:
    """A provider that gives one reply of the list per turn.

        model = ScriptedModel([call("add_numbers", a=7, b=9), ProviderError("busy", status=503), "It is 16."])
        register("scripted", model)          # then Agent(..., model="scripted")

    A reply is a string, a `call(...)`, a list of both, a `Message`, an exception to raise, or a function that takes the
    request and returns one of those. Which reply is next follows from the transcript alone: the turns since the last
    user message, failed and refused ones too. So it survives a crash, and every run of a session starts at the first.
    After the last reply it raises `ProviderError`. `requests` are those it saw, in order.
    """

    name = "scripted"

    def __init__(self, replies: Sequence[Reply | Callable[[ModelRequest], Reply]]) -> None:
        self._replies = tuple(replies)
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the reply of this turn."""
        self.requests.append(request)
        turn = _turns_taken(request)
        if turn >= len(self._replies):
            raise ProviderError(
                f"the scripted model has {len(self._replies)} replies and was asked for number {turn + 1}",
                provider=self.name,
                retryable=False,
            )
        reply = self._replies[turn]
        if not isinstance(reply, str | ScriptedCall | BaseException | Message | Sequence):
            reply = reply(request)
        for chunk in _chunks(reply):
            yield chunk


def _turns_taken(request: ModelRequest) -> int:
    """A refused reply counts by its note, since a transcript may hold the note alone."""
    _, since = since_prompt(request.whole or request.messages)
    return sum(
        message.note in (NoteKind.PROVIDER_ERROR, NoteKind.REFUSED)
        or (message.role is Role.ASSISTANT and not is_refusal(message))
        for message in since
    )


def _chunks(reply: Reply) -> Iterator[Chunk]:
    if isinstance(reply, Message):
        yield from _message_chunks(reply)
        return
    calls = 0
    for piece in (reply,) if isinstance(reply, str | ScriptedCall | BaseException) else reply:
        match piece:
            case str():
                yield from map(TextChunk, split_words(piece))
            case ScriptedCall():
                yield ToolCallChunk(calls, piece.name, piece.arguments, piece.provider_call_id)
                calls += 1
            case BaseException():
                raise piece
            case _:
                assert_never(piece)
    yield ReplyEnd(StopReason.TOOL_CALLS if calls else StopReason.END, model=ScriptedModel.name)


def _message_chunks(message: Message) -> Iterator[Chunk]:
    for index, part in enumerate(message.parts):
        match part:
            case TextPart():
                yield from map(TextChunk, split_words(part.text))
            case ReasoningPart():
                yield ReasoningChunk(part.text, part.signature)
            case ToolCallPart():
                arguments = _json.dumps(part.arguments).decode()
                yield ToolCallChunk(index, part.name, arguments, part.provider_call_id)
            case _:
                raise TypeError(f"a model's reply holds text, reasoning and tool calls, not {part.type}")
    yield ReplyEnd(message.stop_reason or StopReason.END, message.usage or Usage(), message.model or ScriptedModel.name)
