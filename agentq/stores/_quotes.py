"""Texts that an event shares with what is stored beside it go to Redis once; `_quotes.lua` fills them in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq import _json
from agentq.events.model import ReplyCompleted, RunCompleted, ToolFailed, ToolFinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.events.model import Event

# A quote takes about 20 bytes, and finding one some time.
_MIN_CHARS = 100


def without_repeats(
    items: list[bytes], events: Sequence[Event], contents: Sequence[bytes]
) -> tuple[list[bytes], list[str]]:
    """The items without the texts that `contents` hold as well, and the quotes that put them back.

    `items` are the encoded `events`, in the same order. A quote counts items, contents and bytes from 1.
    """
    if not contents:  # deltas, most of all
        return items, []
    kept, quotes = list(items), []
    for index, event in enumerate(events):
        text = _text_of(event)
        if len(text) < _MIN_CHARS:
            continue
        encoded = _json.dumps(text)
        at = items[index].find(encoded)
        for number, content in enumerate(contents if at >= 0 else ()):
            start = content.find(encoded)
            if start >= 0:
                end = start + len(encoded)
                kept[index] = items[index][:at] + items[index][at + len(encoded) :]
                quotes.append(f"{index + 1} {at} {number + 1} {start + 1} {end}")
                break
    return kept, quotes


def _text_of(event: Event) -> str:
    """What the transcript holds as well, if the event tells of something that is added to it."""
    if isinstance(event, ToolFinished | ToolFailed):
        return event.content
    if isinstance(event, ReplyCompleted):
        return event.text
    return event.output if isinstance(event, RunCompleted) else ""
