"""From what an MCP server says to what agentq knows: its tools, their hints, and what a result is."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import mcp_types

from agentq.attachments import File
from agentq.tools.results import ToolResult

if TYPE_CHECKING:
    from agentq.tools.behaviour import ToolOptions

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_UNKNOWN_TYPE = "application/octet-stream"
_LONGEST_FILE_NAME = 200


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
    """The texts of a result, with a word for what is none."""
    return "\n".join(_text(block) for block in result.content)


def value_of(result: mcp_types.CallToolResult) -> str | ToolResult:
    """What the tool returns: the texts for the model, pictures and other contents as files, structured content as data.

    The model reads the structured content where there is no text. Where a text says the same, it is not kept twice.
    """
    texts: list[str] = []
    files: list[File] = []
    for block in result.content:
        found = _file(block)
        if found is None:
            texts.append(_text(block))
        else:
            files.append(found)
    text, data = "\n".join(texts), result.structured_content
    if data is not None and not any(isinstance(block, mcp_types.TextContent) for block in result.content):
        text = "\n".join((json.dumps(data, ensure_ascii=False, separators=(",", ":")), *texts))
        data = None
    elif data is not None and _says(text, data):
        data = None
    return ToolResult(text, files, data) if files or data is not None else text


def _says(text: str, data: dict[str, Any]) -> bool:
    """Whether the text is the data as JSON. Servers wrap what is no object as `{"result": ...}`."""
    wrapped = data["result"] if data.keys() == {"result"} else data
    if text == wrapped:
        return True
    try:
        return json.loads(text) in (data, wrapped)
    except ValueError:
        return False


def _file(block: mcp_types.ContentBlock) -> File | None:
    """A picture, a sound or the bytes of a resource; None for what is text, or no base 64."""
    name: str | None = None
    match block:
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            encoded, kind = block.data, block.mime_type
        case mcp_types.EmbeddedResource(resource=mcp_types.BlobResourceContents() as resource):
            encoded, kind = resource.blob, resource.mime_type or ""
            name = str(resource.uri).rpartition("/")[2]
        case _:
            return None
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    # What a server calls its files must not fail a call that was made.
    kind = kind.partition(";")[0].strip().lower()
    named = name if name and name.isprintable() and len(name) <= _LONGEST_FILE_NAME else None
    return File(content, named, kind if _MEDIA_TYPE.fullmatch(kind) else _UNKNOWN_TYPE)


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
