"""Reads the chunks of a streamed Chat Completion, with what the many compatible servers do differently. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.messages import StopReason, Usage
from agentq.providers._chat_calls import CallIndexes
from agentq.providers._chat_details import DetailReader
from agentq.providers._failures import told_in_stream
from agentq.providers._values import count, dict_or_empty, dicts_in, object_in, problem, shown, some_text, text_or_empty
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
        return self._read(object_in(data, self._provider), "delta")

    def read_whole(self, body: bytes) -> list[Chunk]:
        """The chunks of a reply that came in one piece: the server does not stream, or a gateway speaks for it."""
        reply = object_in(body, self._provider)
        if not isinstance(reply.get("choices"), list) and not reply.get("error"):
            raise problem(self._provider, f"sent no reply: {shown(body)}", retryable=False)
        return self._read(reply, "message")

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if not self.has_ended:
            raise problem(self._provider, "the stream was cut before the reply was complete")
        stop_reason = _STOP_REASONS.get(self._finish or "stop", StopReason.END)
        if self._is_refusal:
            stop_reason = StopReason.REFUSAL  # its finish reason is "stop"
        return ReplyEnd(stop_reason, self._usage, self._model, self._origin)

    def _read(self, chunk: dict[str, Any], content_in: str) -> list[Chunk]:
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            raise told_in_stream(self._provider, error)
        if model := some_text(chunk.get("model")):
            self._model = model
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = read_usage(usage)
        chunks: list[Chunk] = []
        for choice in dicts_in(chunk.get("choices")):
            if not choice.get("index"):
                self._choice(choice, content_in, chunks)
        return chunks

    def _choice(self, choice: dict[str, Any], content_in: str, chunks: list[Chunk]) -> None:
        delta = choice.get(content_in)
        if isinstance(delta, dict):
            self._delta(delta, chunks)
        if finish := some_text(choice.get("finish_reason")):
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
        if refusal := some_text(delta.get("refusal")):
            self._is_refusal = True
            chunks.append(TextChunk(refusal))
        for call in dicts_in(delta.get("tool_calls")):
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
            if text := some_text(delta.get(name)):
                chunks.append(ReasoningChunk(text))
                break
        chunks += read

    def _closing(self) -> list[Chunk]:
        """What is only known at the end of a reply: how its last detail and its calls go back."""
        return [*self._details.close(), *self._calls.natives()]


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. Input tokens hold the cached ones, output tokens those of reasoning."""
    prompt = dict_or_empty(usage.get("prompt_tokens_details"))
    completion = dict_or_empty(usage.get("completion_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cached_input_tokens=count(prompt.get("cached_tokens")) or count(usage.get("prompt_cache_hit_tokens")),
        # The second is how LiteLLM's proxy hands on what Anthropic says.
        cache_write_tokens=count(prompt.get("cache_write_tokens")) or count(usage.get("cache_creation_input_tokens")),
        reasoning_tokens=count(completion.get("reasoning_tokens")),
    )


def _parts(content: Any) -> list[Chunk]:
    """Mistral's servers send a list of parts in place of a text, with reasoning among them."""
    chunks: list[Chunk] = []
    for part in dicts_in(content):
        if text := some_text(part.get("text")):
            chunks.append(TextChunk(text))
        elif thinking := _joined(part.get("thinking")):
            chunks.append(ReasoningChunk(thinking))
    return chunks


def _joined(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(text_or_empty(part.get("text")) for part in dicts_in(parts))
