"""The chain of three tools, two of them in parallel, that every protocol plays against aimock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentq import _json, tool
from agentq.providers._http import Connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers._http import Answer, Post

QUESTION = "What is 7 + 9, and 3 times 4, and the one less the other?"
LONG = "Sixteen and twelve, which leaves four: e\u0301 \u2028 \u00fc \U0001f600."


def calls(*made: dict[str, Any], after: str | None = None, **more: Any) -> dict[str, Any]:
    """A reply that calls tools: to the question, or to the result of the call `after`."""
    match = {"userMessage": QUESTION, "hasToolResult": False} if after is None else {"toolCallId": after}
    return {"match": match, "response": {"toolCalls": list(made), **more}}


def says(content: str, **more: Any) -> dict[str, Any]:
    """A reply to the question."""
    return {"match": {"userMessage": QUESTION}, "response": {"content": content, **more}}


ADD = {"id": "call_add", "name": "add", "arguments": {"a": 7, "b": 9}}
MULTIPLY = {"id": "call_multiply", "name": "multiply", "arguments": {"a": 3, "b": 4}}
SUBTRACT = {"id": "call_subtract", "name": "subtract", "arguments": {"a": 16, "b": 12}}
CHAIN = (
    calls(ADD, MULTIPLY, reasoning="First the sum and the product."),
    calls(SUBTRACT, after="call_multiply"),
)
ANSWER = {"match": {"toolCallId": "call_subtract"}, "response": {"content": LONG}}
# After a failed call the loop's note stands at the end of the transcript.
AGAIN = {"match": {"userMessage": "Go on from where you were"}, "response": {"content": LONG}}


@tool(effect="none")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="none")
async def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


@tool(effect="none")
async def subtract(a: int, b: int) -> int:
    """Subtract b from a."""
    return a - b


class Recorded(Connections):
    """Keeps the bodies that are sent: aimock's journal has them in the words of Chat Completions."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []

    @asynccontextmanager
    async def post(self, post: Post) -> AsyncIterator[Answer]:
        self.bodies.append(_json.loads(post.body))
        async with super().post(post) as answer:
            yield answer
