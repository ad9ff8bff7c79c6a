"""Reads the chunks of a streamed Chat Completion, with what the many compatible servers do differently. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import ProviderError
from agentq.messages import StopReason, Usage
from agentq.providers._failures import excerpt, told_in_stream
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.providers._sse import Frame

_DONE = b"[DONE]"
# Names that are not here end a reply like "stop".
_STOP_REASONS = {
    "stop": StopReason.END,
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "length": StopReason.MAX_TOKENS,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.CONTENT_FILTER,
    "refusal": StopReason.REFUSAL,
}
# OpenRouter's and DeepSeek's words for a reply that their own trouble has cut short.
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource"})


class ChatReader:
    """Turns frames into chunks. `has_ended`: the reply is complete; `is_done`: the server has said all."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._calls = _CallIndexes()
        self._finish: str | None = None
        self._is_refusal = False
        self._usage = Usage()
        self._model: str | None = None
        self.is_done = False

    @property
    def has_ended(self) -> bool:
        return self._finish is not None or self.is_done

    def read(self, frame: Frame) -> Iterator[Chunk]:
        """The chunks of one frame. Raises `ProviderError`, also for an error that the server tells in the stream."""
        data = frame.data
        if self.is_done or not data.strip():
            return
        if data.strip() == _DONE:
            self.is_done = True
            return
        yield from self._read(self._object(data), "delta")

    def read_whole(self, body: bytes) -> Iterator[Chunk]:
        """The chunks of a reply that came in one piece: the server does not stream, or a gateway speaks for it."""
        reply = self._object(body)
        if not isinstance(reply.get("choices"), list) and not reply.get("error"):
            raise self._problem(f"sent no reply: {excerpt(body.decode('utf-8', 'replace'))}", retryable=False)
        yield from self._read(reply, "message")

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if not self.has_ended:
            raise self._problem("the stream was cut before the reply was complete")
        stop_reason = _STOP_REASONS.get(self._finish or "stop", StopReason.END)
        if self._is_refusal:
            stop_reason = StopReason.REFUSAL  # its finish reason is "stop"
        return ReplyEnd(stop_reason, self._usage, self._model)

    def _read(self, chunk: dict[str, Any], content_in: str) -> Iterator[Chunk]:
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            raise told_in_stream(self._provider, error)
        if isinstance(model := chunk.get("model"), str) and model:
            self._model = model
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = read_usage(usage)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                yield from self._choice(choice, content_in)

    def _choice(self, choice: dict[str, Any], content_in: str) -> Iterator[Chunk]:
        delta = choice.get(content_in)
        if isinstance(delta, dict):
            yield from self._delta(delta)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            if finish in _BROKEN_OFF:
                raise told_in_stream(self._provider, choice.get("error") or f"finish_reason {finish!r}")
            self._finish = finish

    def _delta(self, delta: dict[str, Any]) -> Iterator[Chunk]:
        if reasoning := _reasoning(delta):
            yield ReasoningChunk(reasoning)
        yield from _content(delta.get("content"))
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._is_refusal = True
            yield TextChunk(refusal)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                yield self._calls.chunk(call)

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            value = _loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self._problem(f"sent something that is no JSON object: {excerpt(data.decode('utf-8', 'replace'))}")
        return value

    def _problem(self, what: str, *, retryable: bool = True) -> ProviderError:
        return ProviderError(f"{self._provider}: {what}", provider=self._provider, retryable=retryable)


class _CallIndexes:
    """Tells the calls of one reply apart where the server's `index` does not: it may be missing, or always 0."""

    def __init__(self) -> None:
        self._arguments: list[list[str]] = []  # the pieces so far, by our index
        self._names: list[str] = []
        self._with_id: set[int] = set()
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}

    def chunk(self, call: dict[str, Any]) -> ToolCallChunk:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name = function.get("name")
        name = name if isinstance(name, str) and name else None
        call_id = call.get("id")
        call_id = call_id if isinstance(call_id, str) and call_id else None
        arguments = _arguments(function.get("arguments"))
        index = self._index(call.get("index"), call_id, name)
        self._arguments[index].append(arguments)
        self._names[index] = self._names[index] or name or ""
        # The first id counts: some servers make up another for every piece.
        is_first_id = call_id is not None and index not in self._with_id
        if is_first_id:
            self._with_id.add(index)
        return ToolCallChunk(index, name, arguments, call_id if is_first_id else None)

    def _index(self, given: Any, call_id: str | None, name: str | None) -> int:
        if call_id is not None and call_id in self._by_id:
            return self._by_id[call_id]
        known = self._known(given)
        if known is None or self._is_another(known, call_id, name):
            known = len(self._arguments)
            self._arguments.append([])
            self._names.append("")
            if isinstance(given, int):
                self._by_index[given] = known
        if call_id is not None:
            self._by_id[call_id] = known
        return known

    def _known(self, given: Any) -> int | None:
        if isinstance(given, int):
            return self._by_index.get(given)
        return len(self._arguments) - 1 if self._arguments else None

    def _is_another(self, known: int, call_id: str | None, name: str | None) -> bool:
        """Whether a piece with a name begins a call of its own although it comes under the index of an earlier one."""
        if name is None or not self._names[known]:
            return False
        return (call_id is not None and known in self._with_id) or _is_object("".join(self._arguments[known]))


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. Input tokens hold the cached ones, output tokens those of reasoning."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _number(prompt, "cached_tokens") or _number(usage, "prompt_cache_hit_tokens")
    return Usage(
        input_tokens=_number(usage, "prompt_tokens"),
        output_tokens=_number(usage, "completion_tokens"),
        cached_input_tokens=cached,
        reasoning_tokens=_number(completion, "reasoning_tokens"),
    )


def _number(values: Any, name: str) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def _content(content: Any) -> Iterator[Chunk]:
    """The text of a delta; Mistral's servers send a list of parts in its place, with reasoning among them."""
    if isinstance(content, str):
        if content:
            yield TextChunk(content)
        return
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if isinstance(text := part.get("text"), str) and text:
            yield TextChunk(text)
        elif thinking := _joined(part.get("thinking")):
            yield ReasoningChunk(thinking)


def _reasoning(delta: dict[str, Any]) -> str:
    """By DeepSeek's and older vLLM's name, by newer vLLM's and OpenRouter's, or OpenRouter's parts; some send two."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(text := delta.get(name), str) and text:
            return text
    return _joined(delta.get("reasoning_details"))


def _joined(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    texts = [part.get("text") or part.get("summary") for part in parts or () if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _arguments(value: Any) -> str:
    """A fragment of JSON text. Some servers send the object itself."""
    if isinstance(value, str):
        return value
    return _json.dumps(value).decode() if isinstance(value, dict) else ""


def _loads(data: bytes) -> Any:
    try:
        return _json.loads(data)
    except ValueError:
        # Python's own parser takes what the fast one does not: half of a surrogate pair, which some servers send for
        # half of an emoji.
        return json.loads(data.decode("utf-8", "replace"))


def _is_object(text: str) -> bool:
    try:
        return isinstance(_json.loads(text), dict)
    except ValueError:
        return False
