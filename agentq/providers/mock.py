"""The `mock` provider: a prompt is a script, one model turn per line, or is echoed. Needs no network and no key.

It works over the transcript alone and keeps no state, so any worker can continue a run. docs/mock.md describes it.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentq._clock import Clock, SystemClock
from agentq.errors import ProviderError
from agentq.messages import (
    Message,
    NoteKind,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from agentq.providers._script import (
    PROVIDER,
    Action,
    Call,
    Calls,
    Fail,
    Line,
    Refuse,
    Say,
    Sleep,
    Stream,
    fill,
    fill_text,
    parse_script,
)
from agentq.providers.base import Chunk, ModelRequest, ReplyEnd, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

NOTHING_LEFT = "Done."
REFUSAL = "I can't help with that."

# How many chunks go out before other tasks get their turn: an instant reply must not hold up the event loop.
_CHUNKS_PER_TICK = 256


@dataclass(frozen=True, slots=True)
class Turn:
    """What the next turn does: after `wait_s` either `error`, or pieces of text, calls and the end."""

    wait_s: float = 0.0
    error: ProviderError | None = None
    pieces: Sequence[str] = ()
    delay_s: float = 0.0
    calls: tuple[Call, ...] = ()
    stop_reason: StopReason = StopReason.END
    output_tokens: int = 0


class MockProvider:
    """Plays the script in the last user message of the transcript; echoes it where it is no script."""

    name = PROVIDER
    # It looks at none of them, so that whatever is attached can be tried without a key.
    media_types = ("*/*",)
    result_media_types = ("*/*",)

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Yield the next turn. Raises `ProviderError` for a `fail` line and for a script that cannot be played."""
        turn = next_turn(request.whole or request.messages)
        if turn.wait_s:
            await self._clock.sleep(turn.wait_s)
        if turn.error is not None:
            raise turn.error
        for count, piece in enumerate(turn.pieces):
            if count and turn.delay_s:
                await self._clock.sleep(turn.delay_s)
            elif count and count % _CHUNKS_PER_TICK == 0:
                await asyncio.sleep(0)
            yield TextChunk(piece)
        for index, call in enumerate(turn.calls):
            yield ToolCallChunk(index, call.name, json.dumps(call.arguments, separators=(",", ":")))
        usage = Usage(input_tokens=count_words(request.messages), output_tokens=turn.output_tokens)
        yield ReplyEnd(turn.stop_reason, usage, PROVIDER)


def next_turn(messages: Sequence[Message]) -> Turn:
    """What the mock does next on this transcript. Pure. Raises `ProviderError` where a line cannot be played."""
    prompt, since = since_prompt(messages)
    lines = parse_script(prompt)
    if lines is None:
        return _spoken(prompt)
    results = [result.content for message in since for result in message.tool_results]
    at, wait_s = _position(lines, since), 0.0
    for line in lines[at:]:
        if isinstance(line.action, Sleep):
            wait_s += line.action.seconds
        else:
            return replace(_play(line.action, results, line.number), wait_s=wait_s)
    return replace(_spoken((results[-1] if results else "") or NOTHING_LEFT), wait_s=wait_s)


def since_prompt(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The text of the last user message, and the messages after it: a session's earlier runs come before."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role is Role.USER:
            return messages[index].text, messages[index + 1 :]
    return "", messages


def is_refusal(message: Message) -> bool:
    """Whether `message` is a reply that the model or its filter stopped. The note after it stands for the turn."""
    return message.stop_reason in (StopReason.REFUSAL, StopReason.CONTENT_FILTER)


def split_words(text: str) -> list[str]:
    """The words of `text`, each with the white space around it, so that they join to the same text."""
    return _WORD.findall(text)


def count_words(messages: Iterable[Message]) -> int:
    """What the mock takes for tokens: words, and of a call its name and its arguments, one each.

    Counts white space, which is eight times as fast as splitting and differs only where white space is doubled.
    """
    total = 0
    for message in messages:
        for part in message.parts:
            match part:
                case TextPart() | ReasoningPart():
                    total += _words(part.text)
                case ToolResultPart():
                    total += _words(part.content)
                case ToolCallPart():
                    total += 1 + len(part.arguments)
    return total


_WORD = re.compile(r"\s*\S+\s*|\s+")


def _words(text: str) -> int:
    return text.count(" ") + text.count("\n") + (not text[-1].isspace()) if text else 0


def _spoken(text: str) -> Turn:
    pieces = split_words(text)
    return Turn(pieces=pieces, output_tokens=len(pieces))


def _position(lines: Sequence[Line], since: Iterable[Message]) -> int:
    """The index of the first line that no message stands for yet. A `sleep` goes with the line after it."""
    at = 0
    for message in since:
        for index in range(at, len(lines)):
            action = lines[index].action
            if isinstance(action, Sleep):
                continue
            if _stands_for(message, action):
                at = index + 1
            break
    return at


def _stands_for(message: Message, action: Action) -> bool:
    match action:
        case Calls() | Say() | Stream():
            return message.role is Role.ASSISTANT and not is_refusal(message)
        case Fail(always=always):
            return message.note is NoteKind.PROVIDER_ERROR and not always
        case Refuse():
            return message.note is NoteKind.REFUSED


def _play(action: Action, results: Sequence[str], number: int) -> Turn:
    match action:
        case Calls(calls):
            filled = tuple(Call(call.name, fill(call.arguments, results, number)) for call in calls)
            tokens = sum(1 + len(call.arguments) for call in filled)
            return Turn(calls=filled, stop_reason=StopReason.TOOL_CALLS, output_tokens=tokens)
        case Say(text):
            return _spoken(fill_text(text, results, number))
        case Stream(count, piece, delay_s):
            return Turn(pieces=(piece,) * count, delay_s=delay_s, output_tokens=count * len(piece.split()))
        case Fail(status):
            return Turn(error=_failure(status, number))
        case Refuse():
            return replace(_spoken(REFUSAL), stop_reason=StopReason.REFUSAL)


def _failure(status: int, number: int) -> ProviderError:
    # As the vendors' own SDKs do: timeouts, conflicts, rate limits and faults of the server are worth another try.
    retryable = status in (408, 409, 425, 429) or status >= 500
    return ProviderError(
        f"line {number} of the script fails with {status}", provider=PROVIDER, status=status, retryable=retryable
    )
