"""Reads the events of a streamed reply of Anthropic's Messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.messages import StopReason, Usage
from agentq.providers._anthropic_request import REDACTED
from agentq.providers._failures import told_in_stream
from agentq.providers._values import count, dict_or_empty, object_in, problem, shown, some_text, text_or_empty
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
# How the other wires end their streams; gateways write it here, too.
_DONE = b"[DONE]"


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
        data = frame.data.strip()
        if self.is_done or not data or data == _DONE:
            return
        event = object_in(data, self._provider)
        match event.get("type"):
            case "content_block_delta":
                yield from self._delta(dict_or_empty(event.get("delta")), _index(event))
            case "content_block_start":
                yield from self._begin(dict_or_empty(event.get("content_block")), _index(event))
            case "content_block_stop":
                yield from self._end_block(_index(event))
            case "message_start":
                self._head(dict_or_empty(event.get("message")))
            case "message_delta":
                yield from self._tail(dict_or_empty(event.get("delta")), event.get("usage"))
            case "message_stop":
                yield from self._end_blocks()
                self.is_done = True
            case "error":
                raise told_in_stream(self._provider, event.get("error"))

    def read_whole(self, body: bytes) -> Iterator[Chunk]:
        """The chunks of a reply that came in one piece: a gateway that does not stream speaks for the server."""
        reply = object_in(body, self._provider)
        if reply.get("type") == "error":
            raise told_in_stream(self._provider, reply.get("error"))
        blocks = reply.get("content")
        if not isinstance(blocks, list):
            raise problem(self._provider, f"sent no reply: {shown(body)}", retryable=False)
        self._head(reply)
        for index, given in enumerate(blocks):
            block = dict_or_empty(given)
            yield from self._begin(block, index)
            if block.get("signature"):
                self._signature.append(block["signature"])
            yield from self._end_block(index)
        yield from self._tail(reply, None)
        self.is_done = True

    def end(self) -> ReplyEnd:
        """The end of the reply. Raises `ProviderError` when the stream was cut before it."""
        if not self.has_ended:
            raise problem(self._provider, "the stream was cut before the reply was complete")
        if self._stop == _PAUSED:
            raise problem(
                self._provider, "the model paused its turn, which is for tools of the server", retryable=False
            )
        stop_reason = _STOP_REASONS.get(self._stop or "end_turn", StopReason.END)
        return ReplyEnd(stop_reason, read_usage(self._usage), self._model, self._origin)

    # --- the message

    def _head(self, message: dict[str, Any]) -> None:
        if model := some_text(message.get("model")):
            self._model = model
        self._usage |= dict_or_empty(message.get("usage"))

    def _tail(self, delta: dict[str, Any], usage: Any) -> Iterator[Chunk]:
        # Cumulative: what stands here replaces what the start said.
        self._usage |= {name: value for name, value in dict_or_empty(usage).items() if value is not None}
        if stop := some_text(delta.get("stop_reason")):
            self._stop = stop
        if self._stop == "refusal" and not self._has_text:
            details = dict_or_empty(delta.get("stop_details"))
            if words := text_or_empty(details.get("explanation")) or text_or_empty(details.get("category")):
                yield TextChunk(words)

    # --- its blocks

    def _begin(self, block: dict[str, Any], index: int) -> Iterator[Chunk]:
        yield from self._end_blocks()
        self._kinds[index] = kind = text_or_empty(block.get("type"))
        match kind:
            case "text":
                if text := text_or_empty(block.get("text")):
                    self._has_text = True
                    yield TextChunk(text)
            case "thinking":
                self._signature, self._has_thought = [], False
                if text := text_or_empty(block.get("thinking")):
                    self._has_thought = True
                    yield ReasoningChunk(text)
            case "redacted_thinking":
                yield ReasoningChunk("", native={REDACTED: block.get("data")})
            case "tool_use":
                self._given[index] = block.get("input")
                yield ToolCallChunk(index, text_or_empty(block.get("name")), "", text_or_empty(block.get("id")) or None)

    def _delta(self, delta: dict[str, Any], index: int) -> Iterator[Chunk]:
        match delta.get("type"):
            case "text_delta":
                if text := text_or_empty(delta.get("text")):
                    self._has_text = True
                    yield TextChunk(text)
            case "input_json_delta":
                if piece := text_or_empty(delta.get("partial_json")):
                    self._given.pop(index, None)
                    yield ToolCallChunk(index, arguments=piece)
            case "thinking_delta":
                if text := text_or_empty(delta.get("thinking")):
                    self._has_thought = True
                    yield ReasoningChunk(text)
            case "signature_delta":
                self._signature.append(text_or_empty(delta.get("signature")))

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


def read_usage(usage: dict[str, Any]) -> Usage:
    """The tokens of a reply. On the wire the input is without what the cache gave and took."""
    read, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) + read + written,
        output_tokens=count(usage.get("output_tokens")),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(dict_or_empty(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0
