"""What a message holds beside plain text, as providers send it: parts, contents of files, data URLs. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from agentq.attachments import described, untaken
from agentq.errors import ProviderError
from agentq.messages import FilePart, TextPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.messages import Message, ToolResultPart
    from agentq.providers.base import ModelRequest

# What OpenAI's wires take as the content of a message.
Content = str | list[dict[str, Any]]


def content_parts(
    message: Message, text: Callable[[str], dict[str, Any]], file: Callable[[FilePart], dict[str, Any]]
) -> Content:
    """What a message says: a plain text where that will do, which every server takes, else its parts."""
    if not any(isinstance(part, FilePart) for part in message.parts):
        return message.text
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case TextPart() if part.text:
                parts.append(text(part.text))
            case FilePart():
                parts.append(file(part))
    return parts


def joined(first: Content, second: Content, text: Callable[[str], dict[str, Any]]) -> Content:
    """Two contents as one: templates ask that nobody speaks twice in a row."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [part for each in (first, second) for part in ([text(each)] if isinstance(each, str) else each)]


def returned(
    result: ToolResultPart,
    request: ModelRequest,
    text: Callable[[str], dict[str, Any]],
    file: Callable[[FilePart], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What a tool returned, for a wire that takes files there: its text and then its files.

    In place of a file that cannot be sent stands a line about it: for want of one no run fails.
    """
    parts = [text(result.content)] if result.content.strip() else []
    for each in result.files:
        part = _sent(each, request, file)
        parts.append(text(part) if isinstance(part, str) else part)
    return parts


def returned_apart(
    result: ToolResultPart, call_id: str, request: ModelRequest, file: Callable[[FilePart], dict[str, Any]]
) -> tuple[str, str, list[dict[str, Any]]]:
    """What a tool returned, for a wire that takes only text there.

    That text; and for what has to follow as words of the user, a line that says whose it is and the parts, if any.
    """
    texts = [result.content] if result.content else []
    apart: list[dict[str, Any]] = []
    for each in result.files:
        if is_text(each) and (each.digest or "") in request.files:
            texts.append(as_text(each, request.files[each.digest or ""]))
        elif isinstance(part := _sent(each, request, file), str):
            texts.append(part)
        else:
            texts.append(f"[{described(each)}: it follows]")
            apart.append(part)
    return "\n\n".join(texts), f"What {result.name} returned (call {call_id}):", apart


def _sent(file: FilePart, request: ModelRequest, form: Callable[[FilePart], dict[str, Any]]) -> dict[str, Any] | str:
    if file.digest is not None and file.digest not in request.files:
        return untaken(file, "its content is gone")
    try:
        return form(file)
    except ProviderError:
        return untaken(file)


def content_of(file: FilePart, request: ModelRequest, provider: str) -> bytes:
    """The content of a stored file. Raises `ProviderError` where it is not there."""
    content = request.files.get(file.digest or "")
    if content is None:
        raise no_form(file, provider, "its content is not there")
    return content


def is_text(file: FilePart) -> bool:
    """Whether the content can be written into a message as text."""
    return file.media_type.startswith("text/") or file.media_type == "application/json"


def as_text(file: FilePart, content: bytes) -> str:
    """The content for a message, under a line that says what it is."""
    text = content.decode("utf-8-sig", "replace")
    return f"{file.name or 'File'} ({file.media_type}):\n\n{text}"


def in_base64(content: bytes) -> str:
    """Standard base64, as text."""
    return base64.b64encode(content).decode()


def data_url(file: FilePart, content: bytes) -> str:
    """RFC 2397."""
    return f"data:{file.media_type};base64,{in_base64(content)}"


def no_form(file: FilePart, provider: str, reason: str) -> ProviderError:
    """The error, not retryable, for a file that this provider cannot send."""
    return ProviderError(
        f"{provider} cannot take {file.name or file.url} ({file.media_type}): {reason}",
        provider=provider,
        retryable=False,
    )
