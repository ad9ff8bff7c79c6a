"""Reads the chunks of a streamed Chat Completion, with what the many compatible servers do differently. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import ProviderError
from agentq.messages import StopReason, Usage
from agentq.providers._chat_calls import CallIndexes
from agentq.providers._chat_details import DetailReader
from agentq.providers._failures import excerpt, told_in_stream
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk

if TYPE_CHECKING:
    from agentq.messages import Origin
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
    """Turns frames into chunks. `has_ended`: the reply is complete; `is_done`: the server has said all.

    `origin` is whose the reply is.
    """

    def __init__(self, provider: str, origin: Origin | None = None) -> None:
        self._provider = provider
        self._origin = origin
        self._calls = CallIndexes()
        self._details = DetailReader()
        self._finish: str | None = None
        self._is_refusal = False
        self._usage = Usage()
        self._model: str | None = None
        self.is_done = False

    @property
    def has_ended(self) -> bool:
        return self._finish is not None or self.is_done

    def read(self, frame: Frame) -> list[Chunk]:
        """The chunks of one frame. Raises `ProviderError`, also for an error that the server tells in the stream."""
        data = frame.data
        if self.is_done or not data.strip():
            return []
        if data.strip() == _DONE:
            self.is_done = True
            return self._closing()
        return self._read(self._object(data), "delta")

    def read_whole(self, body: bytes) -> list[Chunk]:
        """The chunks of a reply that came in one piece: the server does not stream, or a gateway speaks for it."""
        reply = self._object(body)
        if not isinstance(reply.get("choices"), list) and not reply.get("error"):
            raise self._problem(f"sent no reply: {excerpt(body.decode('utf-8', 'replace'))}", retryable=False)
        return self._read(reply, "message")

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if not self.has_ended:
            raise self._problem("the stream was cut before the reply was complete")
        stop_reason = _STOP_REASONS.get(self._finish or "stop", StopReason.END)
        if self._is_refusal:
            stop_reason = StopReason.REFUSAL  # its finish reason is "stop"
        return ReplyEnd(stop_reason, self._usage, self._model, self._origin)

    def _read(self, chunk: dict[str, Any], content_in: str) -> list[Chunk]:
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            raise told_in_stream(self._provider, error)
        if isinstance(model := chunk.get("model"), str) and model:
            self._model = model
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = read_usage(usage)
        chunks: list[Chunk] = []
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._choice(choice, content_in, chunks)
        return chunks

    def _choice(self, choice: dict[str, Any], content_in: str, chunks: list[Chunk]) -> None:
        delta = choice.get(content_in)
        if isinstance(delta, dict):
            self._delta(delta, chunks)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            if finish in _BROKEN_OFF:
                raise told_in_stream(self._provider, choice.get("error") or f"finish_reason {finish!r}")
            self._finish = finish
            chunks += self._closing()

    def _delta(self, delta: dict[str, Any], chunks: list[Chunk]) -> None:
        self._reasoning(delta, chunks)
        content = delta.get("content")
        if content:
            chunks += self._details.close()
            if isinstance(content, str):
                chunks.append(TextChunk(content))
            else:
                chunks += _parts(content)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._is_refusal = True
            chunks.append(TextChunk(refusal))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                chunks += self._details.close()
                chunks.append(self._calls.chunk(call))

    def _reasoning(self, delta: dict[str, Any], chunks: list[Chunk]) -> None:
        """By DeepSeek's and older vLLM's name, by newer vLLM's, or in OpenRouter's details; some send it twice."""
        details = delta.get("reasoning_details")
        if isinstance(details, list) and details:
            read = self._details.read(details)
            if any(chunk.text for chunk in read):
                chunks += read
                return
        else:
            read = []
        for name in ("reasoning_content", "reasoning"):
            if isinstance(text := delta.get(name), str) and text:
                chunks.append(ReasoningChunk(text))
                break
        chunks += read

    def _closing(self) -> list[Chunk]:
        """What is only known at the end of a reply: how its last detail and its calls go back."""
        return [*self._details.close(), *self._calls.natives()]

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            value = _json.loads_tolerantly(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self._problem(f"sent something that is no JSON object: {excerpt(data.decode('utf-8', 'replace'))}")
        return value

    def _problem(self, what: str, *, retryable: bool = True) -> ProviderError:
        return ProviderError(f"{self._provider}: {what}", provider=self._provider, retryable=retryable)


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. Input tokens hold the cached ones, output tokens those of reasoning."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        input_tokens=_number(usage, "prompt_tokens"),
        output_tokens=_number(usage, "completion_tokens"),
        cached_input_tokens=_number(prompt, "cached_tokens") or _number(usage, "prompt_cache_hit_tokens"),
        # The second is how LiteLLM's proxy hands on what Anthropic says.
        cache_write_tokens=_number(prompt, "cache_write_tokens") or _number(usage, "cache_creation_input_tokens"),
        reasoning_tokens=_number(completion, "reasoning_tokens"),
    )


def _number(values: Any, name: str) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def _parts(content: Any) -> list[Chunk]:
    """Mistral's servers send a list of parts in place of a text, with reasoning among them."""
    chunks: list[Chunk] = []
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if isinstance(text := part.get("text"), str) and text:
            chunks.append(TextChunk(text))
        elif thinking := _joined(part.get("thinking")):
            chunks.append(ReasoningChunk(thinking))
    return chunks


def _joined(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "".join(text for text in texts if isinstance(text, str))
