"""What the result of an MCP server becomes, whatever the server sends."""

from __future__ import annotations

import base64
from typing import Any

import mcp_types
import pytest

from agentq import File, ToolResult
from agentq.mcp._results import value_of
from agentq.settings import Settings
from agentq.tools.results import returned

PNG = b"\x89PNG\x00\xff"
ENCODED = base64.b64encode(PNG).decode()


def result(*blocks: dict[str, Any], structured: Any = None) -> mcp_types.CallToolResult:
    return mcp_types.CallToolResult.model_validate({"content": blocks, "structuredContent": structured})


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(data: str = ENCODED, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "data": data, "mimeType": kind}


def blob(uri: str, kind: str | None = None) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "blob": ENCODED} | ({"mimeType": kind} if kind else {})}


UNKNOWN = "application/octet-stream"


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (result(text("one"), text("two")), "one\ntwo"),
        (result(), ""),
        # Where the text says the same, there is nothing to add.
        (result(text('{"a": 1}'), structured={"a": 1}), '{"a": 1}'),
        (result(text("saw tea"), structured={"result": "saw tea"}), "saw tea"),
        (result(text("[1, 2]"), structured={"result": [1, 2]}), "[1, 2]"),
        (result(text("Two rooms."), structured={"rooms": [1, 2]}), ToolResult("Two rooms.", [], {"rooms": [1, 2]})),
        (result(structured={"ü": None}), '{"ü":null}'),
        (result(image(), structured={"a": 1}), ToolResult('{"a":1}', [File(PNG, None, "image/png")])),
        (result(image(), text("Here.")), ToolResult("Here.", [File(PNG, None, "image/png")])),
        (
            result({"type": "audio", "data": ENCODED, "mimeType": "audio/wav"}),
            ToolResult("", [File(PNG, None, "audio/wav")]),
        ),
        (result(blob("file:///tmp/a.pdf", "application/pdf")), ToolResult("", [File(PNG, "a.pdf", "application/pdf")])),
        # A server may call things what it likes.
        (result(blob("x://a/")), ToolResult("", [File(PNG, None, UNKNOWN)])),
        (result(image(kind="Image/PNG; charset=x")), ToolResult("", [File(PNG, None, "image/png")])),
        (result(image(kind="a picture")), ToolResult("", [File(PNG, None, UNKNOWN)])),
        (result(image(data="no base 64!")), "[image/png, 8 bytes]"),
    ],
)
async def test_texts_files_and_data(given: mcp_types.CallToolResult, value: Any):
    assert value_of(given) == value
    # And it can be kept.
    await returned(value_of(given), Settings())
