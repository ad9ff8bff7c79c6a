"""Reads the responses of a streamed generateContent, and keeps what an exact replay needs. Pure.

Gemini wants every part of a reply back as it was. Where a stream cuts unsigned text, or unsigned thoughts, says
nothing, so neighbours among them become one part; a part that has a signature or anything else beside its text stays
alone. `native` of a part is what its text, or its name, arguments and id, cannot give back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentq.errors import ProviderError
from agentq.messages import Origin, StopReason, Usage
from agentq.providers._failures import excerpt, told_in_stream
from agentq.providers._google_request import API
from agentq.providers._values import as_object, count, dict_or_empty, dicts_in, parsed, problem, shown, some_text
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.providers._sse import Frame

# Names that are not here end a reply like STOP. With calls in it, STOP is what Gemini says, too.
_STOP_REASONS = {
    "STOP": StopReason.END,
    "MAX_TOKENS": StopReason.MAX_TOKENS,
    "CONTINUATION": StopReason.MAX_TOKENS,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"),
            *("ESCALATION", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"),
        ),
        StopReason.CONTENT_FILTER,
    ),
}
# Ends that are no reply, in words. Another try often is one.
_BROKEN_OFF = {
    "MALFORMED_FUNCTION_CALL": "the model wrote a tool call that cannot be read",
    "UNEXPECTED_TOOL_CALL": "the model called a tool that it was not offered",
    "TOO_MANY_TOOL_CALLS": "the model called too many tools in one reply",
    "MISSING_THOUGHT_SIGNATURE": "a thought signature is missing in the request",
    "MALFORMED_RESPONSE": "the model wrote a reply that cannot be read",
    "NO_IMAGE": "the model made no image",
    "OTHER": "the model stopped for a reason that the server does not tell",
    "PUP_LIMITED_DISABLED": "the account is limited or disabled for a violation of the use policy",
}
_LASTING = frozenset({"PUP_LIMITED_DISABLED"})
_UNSET = ("FINISH_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")
_DONE = b"[DONE]"
# Marks a reasoning part, and closes it.
_THOUGHT = {"thought": True}
_OF_TEXT = frozenset({"text"})
_OF_THOUGHT = frozenset({"text", "thought", "thoughtSignature"})
_OF_PART = frozenset({"functionCall"})
_OF_CALL = frozenset({"id", "name", "args"})


class GoogleReader:
    """Turns the responses of one stream into chunks. `model` is the name that was asked for."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._origin = Origin(api=API, model=model)
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self._stop_reason: StopReason | None = None
        self._is_open: type[TextChunk | ReasoningChunk] | None = None  # what the last part is, if more may follow
        self._has_text = False
        self._calls = 0
        self._goes_on = False
        self._has_last_usage = False

    @property
    def has_ended(self) -> bool:
        return self._stop_reason is not None and not self._goes_on

    @property
    def is_done(self) -> bool:
        return self._has_last_usage and self.has_ended

    def read(self, frame: Frame) -> Sequence[Chunk]:
        """The chunks of one frame. Raises `ProviderError`, also for an error that the server tells in the stream."""
        data = frame.data
        if not data.strip() or data == _DONE:
            return ()
        return self._read(self._object(parsed(data), data))

    def read_whole(self, body: bytes) -> Sequence[Chunk]:
        """The chunks of a reply in one piece: one response, or the list of those that a stream would have sent."""
        value = parsed(body)
        responses = value if isinstance(value, list) and value else [value]
        chunks: list[Chunk] = []
        for each in responses:
            response = self._object(each, body)
            if not {"candidates", "promptFeedback", "usageMetadata", "error"} & response.keys():
                raise problem(self._provider, f"sent no reply: {shown(body)}", retryable=False)
            chunks += self._read(response)
        return chunks

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if self._stop_reason is None:
            raise problem(self._provider, "the stream was cut before the reply was complete")
        return ReplyEnd(self._stop_reason, read_usage(self._usage), self._model, self._origin)

    def _read(self, response: dict[str, Any]) -> list[Chunk]:
        if error := response.get("error"):
            raise told_in_stream(self._provider, error)
        is_after_end = self._stop_reason is not None
        chunks: list[Chunk] = []
        if model := some_text(response.get("modelVersion")):
            self._model = model
        usage = response.get("usageMetadata")
        if isinstance(usage, dict):
            # The counts grow; some come once.
            self._usage.update(usage)
        for candidate in dicts_in(response.get("candidates")):
            if not candidate.get("index"):
                self._candidate(candidate, chunks)
        if feedback := response.get("promptFeedback"):
            self._feedback(feedback, chunks)
        if self._stop_reason is not None:
            self._has_last_usage = self._has_last_usage or bool(usage)
            # Old models say STOP with every response. Then only the end of the stream is one.
            self._goes_on = self._goes_on or (is_after_end and bool(chunks))
        return chunks

    def _candidate(self, candidate: dict[str, Any], chunks: list[Chunk]) -> None:
        for part in dicts_in(dict_or_empty(candidate.get("content")).get("parts")):
            self._part(part, chunks)
        finish = some_text(candidate.get("finishReason"))
        if finish is not None and finish not in _UNSET:
            self._finish(finish, candidate.get("finishMessage"), chunks)

    # --- parts

    def _part(self, part: dict[str, Any], chunks: list[Chunk]) -> None:
        text = part.get("text")
        if isinstance(text, str):
            if part.get("thought") is True:
                self._thought(text, part, chunks)
            else:
                self._text(text, part, chunks)
        elif isinstance(call := part.get("functionCall"), dict):
            self._call(call, part, chunks)
        elif part:
            # Code that ran, an image: nothing for us to read, and the model wants it back.
            self._close(chunks)
            chunks.append(TextChunk("", {"part": part}))

    def _text(self, text: str, part: dict[str, Any], chunks: list[Chunk]) -> None:
        self._has_text = self._has_text or bool(text)
        native = _without(part, _OF_TEXT) if len(part) > 1 else None
        if native:
            self._close(chunks)
            chunks.append(TextChunk(text, native))
        elif text:
            if self._is_open is ReasoningChunk:
                self._close(chunks)
            self._is_open = TextChunk
            chunks.append(TextChunk(text))

    def _thought(self, text: str, part: dict[str, Any], chunks: list[Chunk]) -> None:
        signature = part.get("thoughtSignature")
        native = _without(part, _OF_THOUGHT)
        if native or isinstance(signature, str):
            self._close(chunks)
            chunks.append(ReasoningChunk(text, signature, native or None))
        elif text:
            self._is_open = ReasoningChunk
            chunks.append(ReasoningChunk(text))

    def _call(self, call: dict[str, Any], part: dict[str, Any], chunks: list[Chunk]) -> None:
        """A call comes whole. Of several in one reply only the first is signed, by models that sign."""
        if "partialArgs" in call or call.get("willContinue"):
            raise problem(
                self._provider, "sent the arguments of a call in pieces, which nobody asked for", retryable=False
            )
        self._close(chunks)
        native = _without(part, _OF_PART)
        rest = _without(call, _OF_CALL)
        args = call.get("args")
        if args is None:
            rest["args"] = None
        if rest:
            native["functionCall"] = rest
        if self._calls == 0 and "thoughtSignature" not in native:
            # That there was none must be told from a call that has none because another model made it.
            native["thoughtSignature"] = None
        chunks.append(
            ToolCallChunk(
                self._calls,
                some_text(call.get("name")),
                # Not by _json: it writes null for a number beyond the range of JSON, which must be refused.
                "" if args is None else json.dumps(args),
                some_text(call.get("id")),
                native,
            )
        )
        self._calls += 1

    def _close(self, chunks: list[Chunk]) -> None:
        """Let nothing be added to the last part."""
        if self._is_open is TextChunk:
            chunks.append(TextChunk("", {}))
        elif self._is_open is ReasoningChunk:
            chunks.append(ReasoningChunk("", native=dict(_THOUGHT)))
        self._is_open = None

    # --- the end

    def _finish(self, reason: str, message: Any, chunks: list[Chunk]) -> None:
        told = _told(reason, message)
        if reason in _BROKEN_OFF:
            raise ProviderError(
                f"{self._provider}: {_BROKEN_OFF[reason]} ({told})",
                provider=self._provider,
                retryable=reason not in _LASTING,
                code=reason,
            )
        self._stop(_STOP_REASONS.get(reason, StopReason.END), told, chunks)

    def _feedback(self, feedback: Any, chunks: list[Chunk]) -> None:
        """The prompt itself may be blocked; then there is no candidate."""
        given = dict_or_empty(feedback)
        reason = some_text(given.get("blockReason"))
        if reason is not None and reason not in _UNSET:
            told = _told(reason, given.get("blockReasonMessage"))
            self._stop(StopReason.CONTENT_FILTER, f"the prompt was blocked ({told})", chunks)

    def _stop(self, stop_reason: StopReason, told: str, chunks: list[Chunk]) -> None:
        if self._is_open is ReasoningChunk:
            self._close(chunks)
        if stop_reason is StopReason.CONTENT_FILTER and not self._has_text:
            self._text(told, {"text": told}, chunks)  # somebody has to say why
        self._stop_reason = stop_reason

    def _object(self, value: Any, data: bytes) -> dict[str, Any]:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # as errors are wrapped at times
        return as_object(value, data, self._provider)


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. What tools of the server read is input beside the prompt; thoughts are output."""
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
        output_tokens=count(usage.get("candidatesTokenCount")) + thoughts,
        cached_input_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def _told(reason: str, message: Any) -> str:
    return f"{reason}: {excerpt(words)}" if (words := some_text(message)) else reason


def _without(values: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The rest, without what is as good as not there: some servers in between write every key."""
    return {
        name: value for name, value in values.items() if name not in names and value is not None and value is not False
    }
