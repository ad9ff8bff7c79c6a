"""A model server that streams the same words to everybody: `python -m bench.programs.model_server CHUNKS PER_S`.

It prints its address, and speaks the wire of whoever asks, which it knows by the path. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

chunks, per_s = int(sys.argv[1]), float(sys.argv[2])
WORD = "token "
# A model by this name has little to say.
WARM_UP = "warm-up"
MODEL = "bench-1"
Stream = tuple[bytes, bytes, bytes]  # what comes first, a word, what comes last


def sse(*events: Any, named: bool = False) -> bytes:
    """Server-sent events; `named` as the wires of OpenAI's Responses and of Anthropic have them."""
    lines = [f"event: {event['type']}\n" if named else "" for event in events]
    return b"".join(f"{name}data: {json.dumps(event)}\n\n".encode() for name, event in zip(lines, events, strict=True))


def chat() -> Stream:
    def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}

    usage = {"prompt_tokens": 9, "completion_tokens": chunks, "total_tokens": 9 + chunks}
    last = sse(chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    return sse(chunk({"role": "assistant", "content": ""})), sse(chunk({"content": WORD})), last


def responses() -> Stream:
    reply: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": MODEL, "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    text = {"type": "output_text", "text": WORD * chunks, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 9, "output_tokens": chunks, "total_tokens": 9 + chunks,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    first = sse(
        {"type": "response.created", "sequence_number": 0, "response": reply},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {**item, "content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", "sequence_number": 2, **place, "part": {**text, "text": ""}},
        named=True,
    )
    word = sse(
        {"type": "response.output_text.delta", "sequence_number": 3, **place, "delta": WORD, "logprobs": []}, named=True
    )
    last = sse(
        {"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "sequence_number": 5,
            "response": {**reply, "status": "completed", "output": [item], "usage": usage},
        },
        named=True,
    )
    return first, word, last


def anthropic() -> Stream:
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    }  # fmt: skip
    first = sse(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        named=True,
    )
    word = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    last = sse(
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": chunks},
        },
        {"type": "message_stop"},
        named=True,
    )
    return first, sse(word, named=True), last


def google() -> Stream:
    def frame(**more: Any) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": [{"text": WORD}]}, "index": 0, **more}
        usage = {"promptTokenCount": 9, "candidatesTokenCount": chunks, "totalTokenCount": 9 + chunks}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL, "responseId": "r"}

    return b"", sse(frame()), sse(frame(finishReason="STOP"))


STREAMS = {
    b"/chat/completions": chat(),
    b"/responses": responses(),
    b"/messages": anthropic(),
    b":streamGenerateContent": google(),
}


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields.get(b"content-length", 0)))
            path = head.split(b" ", 2)[1]
            count = 1 if WARM_UP.encode() in path + body else chunks
            first, word, last = next(stream for name, stream in STREAMS.items() if name in path)
            writer.write(_HEAD + _chunk(first))
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(count):
                # By the clock, so that a server that is late catches up.
                await asyncio.sleep(began + (number + 1) / per_s - loop.time())
                writer.write(_chunk(word))
            writer.write(_chunk(last) + b"0\r\n\r\n")
            await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2000)
    print(json.dumps(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
