"""What OpenAI's Responses sends: items, the events that tell them, and whole streams."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tests.providers.faults import Wire


def thought(*summaries: str, item_id: str = "rs_1", encrypted: str | None = "gAAA", **more: Any) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text} for text in summaries]
    return {"id": item_id, "type": "reasoning", "summary": summary, "encrypted_content": encrypted, **more}


def message(*texts: str, item_id: str = "msg_1", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text} for text in texts]
    return {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    } | more


def refusal(*texts: str) -> dict[str, Any]:
    return message() | {"content": [{"type": "refusal", "refusal": text} for text in texts]}


def call(number: int, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"fc_{number}",
        "type": "function_call",
        "status": "completed",
        "arguments": arguments,
        "call_id": f"call_{number}",
        "name": name,
    } | more


USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30},
    "output_tokens": 70,
    "output_tokens_details": {"reasoning_tokens": 40},
    "total_tokens": 170,
}


def response(*items: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """The object that stands in the first events and in the last."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_000_000.0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "metadata": {},
        "model": "gpt-x-2026-11-01",
        "output": list(items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if status == "in_progress" else USAGE,
    } | more


def told(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of one item, its texts in pieces of two characters."""
    begun = copy.deepcopy(item)
    middle: list[dict[str, Any]] = []
    where = {"output_index": index, "item_id": item.get("id")}
    match item["type"]:
        case "message":
            begun |= {"status": "in_progress", "content": []}
            for number, part in enumerate(item["content"]):
                middle += _part(where | {"content_index": number}, part)
        case "reasoning":
            begun |= {"summary": [], "encrypted_content": "gAA"} | ({"content": []} if item.get("content") else {})
            for number, part in enumerate(item["summary"]):
                middle += _summary(where | {"summary_index": number}, part)
            for number, part in enumerate(item.get("content") or ()):
                at = where | {"content_index": number}
                middle += _deltas("response.reasoning_text", at, part["text"], {"text": part["text"]})
        case "function_call":
            begun |= {"status": "in_progress", "arguments": ""}
            arguments = item["arguments"]
            middle = _deltas("response.function_call_arguments", where, arguments, {"arguments": arguments})
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        *middle,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _part(where: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    kind = part["type"]
    key = "refusal" if kind == "refusal" else "text"
    empty = part | {key: ""}
    return [
        {"type": "response.content_part.added", **where, "part": empty},
        *_deltas(f"response.{kind}", where, part[key], {key: part[key]}, logprobs=[]),
        {"type": "response.content_part.done", **where, "part": part},
    ]


def _summary(where: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "response.reasoning_summary_part.added", **where, "part": part | {"text": ""}},
        *_deltas("response.reasoning_summary_text", where, part["text"], {"text": part["text"]}),
        {"type": "response.reasoning_summary_part.done", **where, "part": part},
    ]


def _deltas(kind: str, where: dict[str, Any], text: str, whole: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    pieces = [text[begin : begin + 2] for begin in range(0, len(text), 2)]
    return [
        *({"type": f"{kind}.delta", **where, "delta": piece, "obfuscation": "Xq", **more} for piece in pieces),
        {"type": f"{kind}.done", **where, **whole, **more},
    ]


def events(*items: dict[str, Any], status: str = "completed", **more: Any) -> list[dict[str, Any]]:
    """All events of a reply, in order, with their numbers."""
    made = [
        {"type": "response.created", "response": response(status="in_progress")},
        {"type": "response.in_progress", "response": response(status="in_progress")},
        *(event for index, item in enumerate(items) for event in told(index, item)),
        {"type": f"response.{status}", "response": response(*items, status=status, **more)},
    ]
    return numbered(made)


def numbered(made: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event | {"sequence_number": number} for number, event in enumerate(made)]


def encoded(made: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event.get('type')}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in made
    )


def replies(
    *items: dict[str, Any], status: str = "completed", **more: Any
) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    """Answer with a whole reply of these items."""
    return sends(encoded(events(*items, status=status, **more)))


def sends(data: bytes) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    """Answer with a whole stream of these bytes."""

    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(data)
        await wire.end()

    return play
