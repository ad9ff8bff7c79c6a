"""How many tokens a text or a transcript takes, by its length: no tokenizer, no network, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq import _json
from agentq.messages import FilePart, Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentq.messages import Part

# English prose, code and JSON have 3 to 5 characters a token. Bytes of UTF-8 are counted, which are the characters of
# such texts, because one of Chinese is more than one of English.
_BYTES_PER_TOKEN = 4
# What says whose message it is, and where it ends.
_MESSAGE_TOKENS = 4
# The names, ids and brackets around a call or a result.
_CALL_TOKENS = 8
# A large picture at Anthropic, two at OpenAI, a few pages of a document: which it is, only the provider knows.
_FILE_TOKENS = 1_600


def estimate_tokens(what: str | Message | Iterable[Message]) -> int:
    """About how many tokens a text, a message or messages take: 4 bytes a token, and a fixed number for a file.

    It may be wrong by a third; the loop corrects it by what providers report.
    """
    if isinstance(what, str):
        return _of_text(what)
    if isinstance(what, Message):
        return _MESSAGE_TOKENS + sum(_of_part(part) for part in what.parts)
    return sum(_MESSAGE_TOKENS + sum(_of_part(part) for part in message.parts) for message in what)


def _of_text(text: str) -> int:
    # Whether a text is ASCII is known without looking at it.
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // _BYTES_PER_TOKEN)


def _of_part(part: Part) -> int:
    match part:
        case TextPart() | ReasoningPart():
            return _of_text(part.text)
        case ToolResultPart():
            return _CALL_TOKENS + _of_text(part.content) + sum(_of_part(file) for file in part.files)
        case ToolCallPart():
            return _CALL_TOKENS + _of_text(part.name) + -(-len(_json.dumps(part.arguments)) // _BYTES_PER_TOKEN)
        case FilePart():
            is_text = part.media_type.startswith("text/") and part.size is not None
            return part.size // _BYTES_PER_TOKEN if is_text and part.size is not None else _FILE_TOKENS
