"""Shorter results of tools: cut to a length, with their white space collapsed. Pure, and the same done twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.messages import Role, ToolResultPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.messages import Message

_NOTICE = re.compile(r"(?:\A|\n)\[Truncated: (\d+) chars total, showing first (\d+)\]\Z")
_BLANKS = re.compile(r"[^\S\n]+")
_LINE_ENDS = re.compile(r" ?\n(?: ?\n)*")


def cut(content: str, limit: int) -> str:
    """The first `limit` characters, and a line that says so. What was cut so before keeps its true length in it."""
    if len(content) <= limit:
        return content
    total, body = len(content), content
    if content.endswith("]") and (noted := _NOTICE.search(content, max(len(content) - 100, 0))) is not None:
        body = content[: noted.start()]
        # White space may have gone since, so it may be shorter than it says.
        if len(body) > int(noted[2]):
            body = content
        elif len(body) <= limit:
            return content
        else:
            total = int(noted[1])
    return f"{body[:limit]}\n[Truncated: {total} chars total, showing first {limit}]"


def collapsed(content: str) -> str:
    """One blank in place of several, no blanks at the ends of lines, no empty lines."""
    return _LINE_ENDS.sub("\n", _BLANKS.sub(" ", content)).strip()


def budget_tool_results(
    messages: Sequence[Message], max_chars: int = 5_000, *, preserve_recent: int = 10
) -> tuple[Message, ...]:
    """The messages, results of tools cut to `max_chars`; the last `preserve_recent` messages stay as they are.

    Raises `InvalidInput`.
    """
    if max_chars < 1:
        raise InvalidInput(f"max_chars must be at least 1, not {max_chars}", field="max_chars")
    if preserve_recent < 0:
        raise InvalidInput(f"preserve_recent must be at least 0, not {preserve_recent}", field="preserve_recent")
    upto = max(len(messages) - preserve_recent, 0)
    return (*(shortened(message, max_chars) for message in messages[:upto]), *messages[upto:])


def shortened(message: Message, max_chars: int | None, *, collapses: bool = False) -> Message:
    """The message with shorter results; the very same where there is nothing to shorten."""
    if message.role is not Role.TOOL:
        return message
    parts = tuple(
        _shortened(part, max_chars, collapses=collapses) if isinstance(part, ToolResultPart) else part
        for part in message.parts
    )
    if all(new is old for new, old in zip(parts, message.parts, strict=True)):
        return message
    return message.model_copy(update={"parts": parts})


def _shortened(result: ToolResultPart, max_chars: int | None, *, collapses: bool) -> ToolResultPart:
    content = result.content if max_chars is None else cut(result.content, max_chars)
    if collapses:
        content = collapsed(content)
    # The line that says what was cut may be longer than what was.
    return result.model_copy(update={"content": content}) if len(content) < len(result.content) else result
