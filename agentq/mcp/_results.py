"""From what an MCP server says to what agentq knows: its tools, their hints, and the text of a result."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import mcp_types

if TYPE_CHECKING:
    from agentq.tools.behaviour import ToolOptions

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64


def name_of(tool: mcp_types.Tool, prefix: str) -> str:
    """The name that models are told: theirs may have fewer letters than MCP's."""
    return (prefix + _NO_NAME.sub("_", tool.name))[:_LONGEST_NAME]


def schema_of(tool: mcp_types.Tool) -> dict[str, Any]:
    return {"type": "object", **tool.input_schema}


def hints_of(tool: mcp_types.Tool) -> ToolOptions:
    """What the server's annotations say about repeating a call; nothing where it says nothing."""
    hints = tool.annotations
    if hints is None:
        return {}
    if hints.read_only_hint:
        return {"effect": "none", "read_only": True}
    options: ToolOptions = {"destructive": bool(hints.destructive_hint)}
    if hints.idempotent_hint:
        options["effect"] = "idempotent"
    return options


def text_of(result: mcp_types.CallToolResult) -> str:
    """What the model reads: the texts, a word for what is none, and the structured content where there is no text."""
    parts = [_text(block) for block in result.content]
    has_text = any(isinstance(block, mcp_types.TextContent) for block in result.content)
    if not has_text and result.structured_content is not None:
        parts.insert(0, json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":")))
    return "\n".join(parts)


def _text(block: mcp_types.ContentBlock) -> str:
    match block:
        case mcp_types.TextContent():
            return block.text
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            return f"[{block.mime_type}, {_bytes_in(block.data)} bytes]"
        case mcp_types.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents() as resource):
            return resource.text
        case mcp_types.EmbeddedResource(resource=mcp_types.BlobResourceContents() as resource):
            return f"[{resource.mime_type or resource.uri}, {_bytes_in(resource.blob)} bytes]"
        case _:
            return f"[{block.type}]"


def _bytes_in(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")
