"""Requests and streams of Anthropic's Messages, for the tests of that adapter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from anthropic.types.beta.message_create_params import MessageCreateParamsStreaming as BetaParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from agentq.messages import Message, Origin, decode_message, encode_message
from agentq.providers._anthropic_request import request_body
from agentq.providers._anthropic_settings import AnthropicEnvironment, read_settings, server_of
from agentq.providers._anthropic_stream import AnthropicReader
from agentq.providers._sse import SseParser
from agentq.providers.base import ModelRequest
from agentq.providers.reply import ReplyBuilder
from tests.providers.strict import check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.providers.faults import Wire

MODEL = "claude-opus-5-5"
ENVIRONMENT = AnthropicEnvironment(api_key="sk-ant-test")
_OF_OLD = {"temperature", "top_p", "top_k"}
ORIGIN = Origin(api="anthropic/2023-06-01", model=MODEL)


def check_body(body: dict[str, Any], *, beta: bool = False) -> None:
    """Raise where the vendor's own SDK would not take a body, to the key."""
    # The SDK speaks a newer version of the API, which has given up what the default one still takes.
    given = {name: value for name, value in body.items() if name not in _OF_OLD}
    check(BetaParams if beta else MessageCreateParamsStreaming, given)


def body_of(*messages: Message, more: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The body of a request, which has passed the check."""
    request = ModelRequest(MODEL, messages, **(more or {}))
    read = read_settings("anthropic", settings)
    body = request_body(request, read, server_of("anthropic", read, ENVIRONMENT), provider="anthropic")
    sent: dict[str, Any] = json.loads(json.dumps(body))
    check_body(sent)
    return sent


# --- streams


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def start(**usage: int) -> dict[str, Any]:
    tokens = {"input_tokens": 100, "output_tokens": 1} | usage
    return event(
        "message_start",
        message={
            "id": "msg_1", "type": "message", "role": "assistant", "model": f"{MODEL}-20260901", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": tokens,
        },
    )  # fmt: skip


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        event("content_block_start", index=index, content_block=content),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def thinking(index: int, signature: str, *pieces: str) -> list[dict[str, Any]]:
    return block(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        *({"type": "thinking_delta", "thinking": piece} for piece in pieces),
        {"type": "signature_delta", "signature": signature},
    )


def tool_use(index: int, call_id: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    return block(
        index,
        {"type": "tool_use", "id": call_id, "name": name, "input": {}},
        *({"type": "input_json_delta", "partial_json": piece} for piece in pieces),
    )


def end(stop: str = "end_turn", details: dict[str, Any] | None = None, **usage: Any) -> list[dict[str, Any]]:
    return [
        event(
            "message_delta",
            delta={"stop_reason": stop, "stop_sequence": None, "stop_details": details},
            usage={"output_tokens": 77} | usage,
        ),
        event("message_stop"),
    ]


def encoded(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=False)}  \n\n".encode() for each in events
    )


def says(*words: str) -> list[dict[str, Any]]:
    return [start(), event("ping"), *text(0, *words), *end()]


def streams(events: list[dict[str, Any]]) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(encoded(events))
        await wire.end()

    return play


def decoded(*pieces: bytes) -> Message:
    """The message that a stream becomes, as it comes out of the store."""
    parser, reader, builder = SseParser(), AnthropicReader("anthropic", ORIGIN), ReplyBuilder()
    for frames in (*map(parser.feed, pieces), parser.end()):
        for frame in frames:
            for chunk in reader.read(frame):
                builder.add(chunk)
    builder.add(reader.end())
    return decode_message(encode_message(builder.finish("RUN", 1)))
