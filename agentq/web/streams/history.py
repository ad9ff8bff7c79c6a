"""Messages of a transcript as AG-UI has them, for a client that did not bring its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.messages import ReasoningPart, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentq.messages import Message


def from_transcript(owner: str, messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages in AG-UI's words, with ids made of `owner` and their place. Notes of the loop are left out."""
    return [each for index, message in enumerate(messages) for each in _of(f"{owner}.m{index}", message)]


def _of(message_id: str, message: Message) -> list[dict[str, Any]]:
    if message.compacted is not None:
        return []
    match message.role:
        case Role.USER:
            return [{"id": message_id, "role": "user", "content": message.text}]
        case Role.ASSISTANT:
            return _reply(message_id, message)
        case Role.TOOL:
            return [
                {
                    "id": f"{result.call_id}.result",
                    "role": "tool",
                    "toolCallId": result.call_id,
                    "content": result.content,
                }
                for result in message.tool_results
            ]
        case Role.SYSTEM:
            return []


def _reply(message_id: str, message: Message) -> list[dict[str, Any]]:
    thoughts = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": _json.dumps(call.arguments).decode()},
        }
        for call in message.tool_calls
    ]
    reply: dict[str, Any] = {"id": message_id, "role": "assistant", "content": message.text}
    if calls:
        reply["toolCalls"] = calls
    before = [{"id": f"{message_id}.reasoning", "role": "reasoning", "content": thoughts}] if thoughts else []
    return [*before, reply]
