"""Reads the events of a streamed reply of Anthropic's Messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import ProviderError
from agentq.messages import StopReason, Usage
from agentq.providers._anthropic_request import REDACTED
from agentq.providers._failures import excerpt, told_in_stream
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.messages import Origin
    from agentq.providers._sse import Frame

# Names that are not here end a reply like "end_turn".
_STOP_REASONS = {
    "end_turn": StopReason.END,
    "stop_sequence": StopReason.END,
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_context_window_exceeded": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSAL,
}
# For tools that the server runs itself; none is offered.
_PAUSED = "pause_turn"


class AnthropicReader:
    """Turns events into chunks. `has_ended`: the reply is complete; `is_done`: the server has said all."""

    def __init__(self, provider: str, origin: Origin) -> None:
        self._provider = provider
        self._origin = origin
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._has_text = False
        self._signature: list[str] = []
        self._has_thought = False  # in the block that is open
        self._given: dict[int, Any] = {}  # input that came with the beginning of a call, until pieces of it come
        self._kinds: dict[int, str] = {}  # of the blocks that are open
        self.is_done = False

    @property
    def has_ended(self) -> bool:
        return self._stop is not None or self.is_done

    def read(self, frame: Frame) -> Iterator[Chunk]:
        """The chunks of one event. Raises `ProviderError`, also for an error that the server tells in the stream."""
        if self.is_done or not frame.data.strip():
            return
        event = self._object(frame.data)
        match event.get("type"):
            case "content_block_delta":
                yield from self._delta(_dict(event.get("delta")), _index(event))
            case "content_block_start":
                yield from self._begin(_dict(event.get("content_block")), _index(event))
            case "content_block_stop":
                yield from self._end_block(_index(event))
            case "message_start":
                self._head(_dict(event.get("message")))
            case "message_delta":
                yield from self._tail(_dict(event.get("delta")), event.get("usage"))
            case "message_stop":
                yield from self._end_blocks()
                self.is_done = True
            case "error":
                raise told_in_stream(self._provider, event.get("error"))

    def read_whole(self, body: bytes) -> Iterator[Chunk]:
        """The chunks of a reply that came in one piece: a gateway that does not stream speaks for the server."""
        reply = self._object(body)
        if reply.get("type") == "error":
            raise told_in_stream(self._provider, reply.get("error"))
        blocks = reply.get("content")
        if not isinstance(blocks, list):
            raise self._problem(f"sent no reply: {excerpt(body.decode('utf-8', 'replace'))}", retryable=False)
        self._head(reply)
        for index, given in enumerate(blocks):
            block = _dict(given)
            yield from self._begin(block, index)
            if block.get("signature"):
                self._signature.append(block["signature"])
            yield from self._end_block(index)
        yield from self._tail(reply, None)
        self.is_done = True

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if not self.has_ended:
            raise self._problem("the stream was cut before the reply was complete")
        if self._stop == _PAUSED:
            raise self._problem("the model paused its turn, which is for tools of the server", retryable=False)
        stop_reason = _STOP_REASONS.get(self._stop or "end_turn", StopReason.END)
        return ReplyEnd(stop_reason, read_usage(self._usage), self._model, self._origin)

    # --- the message

    def _head(self, message: dict[str, Any]) -> None:
        if isinstance(model := message.get("model"), str) and model:
            self._model = model
        self._usage |= _dict(message.get("usage"))

    def _tail(self, delta: dict[str, Any], usage: Any) -> Iterator[Chunk]:
        # Cumulative: what stands here replaces what the start said.
        self._usage |= {name: value for name, value in _dict(usage).items() if value is not None}
        if isinstance(stop := delta.get("stop_reason"), str) and stop:
            self._stop = stop
        if self._stop == "refusal" and not self._has_text:
            details = _dict(delta.get("stop_details"))
            if words := _str(details.get("explanation")) or _str(details.get("category")):
                yield TextChunk(words)

    # --- its blocks

    def _begin(self, block: dict[str, Any], index: int) -> Iterator[Chunk]:
        yield from self._end_blocks()
        kind = block.get("type")
        self._kinds[index] = kind if isinstance(kind, str) else ""
        match kind:
            case "text":
                if text := _str(block.get("text")):
                    self._has_text = True
                    yield TextChunk(text)
            case "thinking":
                self._signature, self._has_thought = [], False
                if text := _str(block.get("thinking")):
                    self._has_thought = True
                    yield ReasoningChunk(text)
            case "redacted_thinking":
                yield ReasoningChunk("", native={REDACTED: block.get("data")})
            case "tool_use":
                self._given[index] = block.get("input")
                yield ToolCallChunk(index, _str(block.get("name")), "", _str(block.get("id")) or None)

    def _delta(self, delta: dict[str, Any], index: int) -> Iterator[Chunk]:
        match delta.get("type"):
            case "text_delta":
                if text := _str(delta.get("text")):
                    self._has_text = True
                    yield TextChunk(text)
            case "input_json_delta":
                if piece := _str(delta.get("partial_json")):
                    self._given.pop(index, None)
                    yield ToolCallChunk(index, arguments=piece)
            case "thinking_delta":
                if text := _str(delta.get("thinking")):
                    self._has_thought = True
                    yield ReasoningChunk(text)
            case "signature_delta":
                self._signature.append(_str(delta.get("signature")))

    def _end_block(self, index: int) -> Iterator[Chunk]:
        """Blocks go back one by one, so the parts of a reply end where they do."""
        match self._kinds.pop(index, ""):
            case "text":
                yield TextChunk("", native={})
            case "thinking":
                # The text may be empty, and what the signature stands for is left out. A server that signs nothing
                # may want the thinking back all the same.
                signature = "".join(self._signature)
                if signature or self._has_thought:
                    yield ReasoningChunk("", signature)
            case "tool_use":
                if given := self._given.pop(index, None):
                    yield ToolCallChunk(index, arguments=_json.dumps(given).decode())

    def _end_blocks(self) -> Iterator[Chunk]:
        """Blocks come one after the other, also where a server forgets to end them."""
        for index in tuple(self._kinds):
            yield from self._end_block(index)

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            value = _json.loads_tolerantly(data)
        except (ValueError, RecursionError):
            # How the other wires end their streams, or nothing that could be read.
            value = {} if data.strip() == b"[DONE]" else None
        if not isinstance(value, dict):
            raise self._problem(f"sent something that is no JSON object: {excerpt(data.decode('utf-8', 'replace'))}")
        return value

    def _problem(self, what: str, *, retryable: bool = True) -> ProviderError:
        return ProviderError(f"{self._provider}: {what}", provider=self._provider, retryable=retryable)


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. On the wire the input is without what the cache gave and took."""
    read, written = _number(usage, "cache_read_input_tokens"), _number(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_number(usage, "input_tokens") + read + written,
        output_tokens=_number(usage, "output_tokens"),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_number(_dict(usage.get("output_tokens_details")), "thinking_tokens"),
    )


def _number(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0
