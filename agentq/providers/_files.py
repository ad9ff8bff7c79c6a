"""Files of a message as providers send them: contents, data URLs, and the error for one that has no form. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from agentq.errors import ProviderError

if TYPE_CHECKING:
    from agentq.messages import FilePart
    from agentq.providers.base import ModelRequest


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
