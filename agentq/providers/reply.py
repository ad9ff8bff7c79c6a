"""Assembles the chunks of one streamed reply into a message. Pure: no I/O, no clock; the same for every provider."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, assert_never

import pydantic_core

from agentq import _ids, _json
from agentq.errors import ProviderError
from agentq.messages import Message, Part, ReasoningPart, Role, StopReason, TextPart, ToolCallPart
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, Retried, TextChunk, ToolCallChunk

# Stands in for a name that the model left out: providers refuse a transcript whose calls have an empty name, which
# would fail every later turn. Its `arguments_error` keeps the call from being run.
UNNAMED = "unnamed"

# A whole object cannot be the beginning of a longer one: calls of a reply that was cut are made if theirs is whole.
CUT = "the reply reached its token limit before the arguments were complete; send a shorter call"

# Room for a look at broken arguments; whole ones can be megabytes, and the model reads this text back.
_EXCERPT_CHARS = 80

# No tool needs more, and pydantic's JSON parser gives up at 200, of which the message around it takes some.
_MAX_DEPTH = 100


@dataclass(slots=True)
class _Words:
    """A part of text, or of reasoning."""

    is_reasoning: bool
    pieces: list[str] = field(default_factory=list)
    signature: str | None = None
    native: dict[str, Any] | None = None

    @property
    def is_closed(self) -> bool:
        return self.signature is not None or self.native is not None

    def part(self) -> TextPart | ReasoningPart:
        text, native = "".join(self.pieces), self.native or None
        if self.is_reasoning:
            return ReasoningPart(text=text, signature=self.signature, native=native)
        return TextPart(text=text, native=native)


@dataclass(slots=True)
class _Call:
    name: str = ""
    provider_call_id: str | None = None
    native: dict[str, Any] | None = None
    pieces: list[str] = field(default_factory=list)


class ReplyBuilder:
    """Collects chunks with `add`; `finish` gives the message. Each chunk costs one append."""

    __slots__ = ("_calls", "_end", "_parts", "_seen", "_whole")

    def __init__(self) -> None:
        self._parts: list[_Words | _Call] = []
        self._calls: dict[int, _Call] = {}
        self._end: ReplyEnd | None = None
        # How many parts were looked at for whole calls, and how many there were.
        self._seen = self._whole = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return self._words(is_reasoning=False)

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return self._words(is_reasoning=True)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk. Raises `ProviderError` after the end of the reply."""
        if self._end is not None:
            raise ProviderError("the provider sent more after the end of the reply")
        match chunk:
            case TextChunk():
                self._add_words(chunk.text, None, chunk.native, is_reasoning=False)
            case ReasoningChunk():
                self._add_words(chunk.text, chunk.signature, chunk.native, is_reasoning=True)
            case ToolCallChunk():
                self._add_call(chunk)
            case Retried():
                self._parts, self._calls = [], {}
                self._seen = self._whole = 0
            case ReplyEnd():
                self._end = chunk
            case _:
                assert_never(chunk)

    def whole_calls(self, run_id: str, turn: int) -> list[ToolCallPart]:
        """The calls that are complete and were not given before: another part has begun after them."""
        calls = []
        while self._seen < len(self._parts) - 1:
            part = self._parts[self._seen]
            self._seen += 1
            if isinstance(part, _Call):
                calls.append(_call_part(part, _ids.call_id(run_id, turn, self._whole), is_cut=False))
                self._whole += 1
        return calls

    def finish(self, run_id: str, turn: int) -> Message:
        """The whole reply. Raises `ProviderError` when the stream ended before its `ReplyEnd`.

        The stop reasons `end` and `tool_calls` follow what the reply holds; providers are not all exact about it.
        """
        if self._end is None:
            raise ProviderError("the stream was cut before the reply was complete", retryable=True)
        parts: list[Part] = []
        calls = 0
        is_cut = self._end.stop_reason is StopReason.MAX_TOKENS
        for part in self._parts:
            match part:
                case _Words():
                    parts.append(part.part())
                case _Call():
                    parts.append(_call_part(part, _ids.call_id(run_id, turn, calls), is_cut=is_cut))
                    calls += 1
                case _:
                    assert_never(part)
        stop_reason = self._end.stop_reason
        if stop_reason in (StopReason.END, StopReason.TOOL_CALLS):
            stop_reason = StopReason.TOOL_CALLS if calls else StopReason.END
        return Message(
            role=Role.ASSISTANT,
            parts=tuple(parts),
            model=self._end.model,
            origin=self._end.origin if any(_is_theirs(part) for part in parts) else None,
            stop_reason=stop_reason,
            usage=self._end.usage,
        )

    def _words(self, *, is_reasoning: bool) -> str:
        of_kind = [part for part in self._parts if isinstance(part, _Words) and part.is_reasoning is is_reasoning]
        return "".join(piece for part in of_kind for piece in part.pieces)

    def _add_words(
        self, text: str, signature: str | None, native: dict[str, Any] | None, *, is_reasoning: bool
    ) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, _Words) or last.is_reasoning is not is_reasoning or last.is_closed:
            if not text and not native and signature is None:
                return  # there is nothing that it could close
            last = _Words(is_reasoning)
            self._parts.append(last)
        last.pieces.append(text)
        last.signature, last.native = signature, native

    def _add_call(self, chunk: ToolCallChunk) -> None:
        call = self._calls.get(chunk.index)
        if call is None or _is_another(call, chunk):
            call = self._calls[chunk.index] = _Call()
            self._parts.append(call)
        call.name = call.name or (chunk.name or "").strip()
        call.provider_call_id = call.provider_call_id or chunk.provider_call_id
        if chunk.native:
            call.native = (call.native or {}) | chunk.native
        if chunk.arguments:
            call.pieces.append(chunk.arguments)


def _is_another(call: _Call, chunk: ToolCallChunk) -> bool:
    """Some compatible servers send every call under index 0; a new id tells the calls apart."""
    return bool(chunk.provider_call_id and call.provider_call_id and chunk.provider_call_id != call.provider_call_id)


def _call_part(call: _Call, call_id: str, *, is_cut: bool) -> ToolCallPart:
    arguments, error = parse_arguments("".join(call.pieces))
    if is_cut and (error or not any(piece.strip() for piece in call.pieces)):
        # No arguments at all may be the beginning of some, which must not be taken for a call without any.
        error = CUT
    if not call.name:
        error = "the call names no tool"
    return ToolCallPart(
        call_id=call_id,
        name=call.name or UNNAMED,
        arguments=arguments,
        provider_call_id=call.provider_call_id,
        arguments_error=error,
        native=call.native,
    )


def _is_theirs(part: Part) -> bool:
    """Whether only the provider that sent the part understands all of it."""
    return getattr(part, "native", None) is not None or getattr(part, "signature", None) is not None


def parse_arguments(text: str) -> tuple[dict[str, Any], str | None]:
    """The arguments, and what is wrong with them. NaN and infinity are refused: they could not be stored."""
    if not text or text.isspace():
        return {}, None
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        return {}, f"the arguments are not valid JSON ({error}): {_excerpt(text)}"
    if not isinstance(value, dict):
        return {}, f"the arguments must be a JSON object: {_excerpt(text)}"
    if not _can_be_stored(value, _MAX_DEPTH):
        return {}, f"the arguments are nested too deep, or hold a number beyond the range of JSON: {_excerpt(text)}"
    return value, None


def _can_be_stored(value: Any, depth: int) -> bool:
    """Whether what was parsed can be written and parsed again: 1e999 is infinity, and readers limit the depth."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    return depth > 0 and all(_can_be_stored(each, depth - 1) for each in value)


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT_CHARS else f"{text[: _EXCERPT_CHARS - 1]}…"


def storable(chunk: Chunk) -> Chunk:
    """The chunk, with a question mark for each lone surrogate: half of an emoji must not fail the run."""
    match chunk:
        case TextChunk() | ReasoningChunk() if chunk.native is None:
            chunk.text = _json.storable(chunk.text)
        case TextChunk() | ReasoningChunk():
            chunk.text, chunk.native = _json.storable(chunk.text), _json.storable_tree(chunk.native)
        case ToolCallChunk():
            chunk.name, chunk.arguments = _json.storable_tree(chunk.name), _json.storable(chunk.arguments)
            chunk.provider_call_id = _json.storable_tree(chunk.provider_call_id)
            chunk.native = _json.storable_tree(chunk.native)
        case Retried():
            chunk.error = _json.storable(chunk.error)
    return chunk
