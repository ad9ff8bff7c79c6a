"""Texts that an event shares with what is stored beside it go to Redis once; `_quotes.lua` fills them in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.events.model import ReplyCompleted, RunCompleted, ToolFailed, ToolFinished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentq.events.model import Event

# A quote takes about 20 bytes, and finding one some time.
_MIN_CHARS = 100
# A tuple: a union of types is built anew each time that it is written in a call.
_REPEATING = (ToolFinished, ToolFailed, ReplyCompleted, RunCompleted)


def without_repeats(
    items: list[bytes], events: Sequence[Event], contents: Sequence[bytes]
) -> tuple[list[bytes], list[str]]:
    """The items without the texts and data that `contents` hold as well, and the quotes that put them back.

    `items` are the encoded `events`, in the same order. A quote counts items, contents and bytes from 1; those of one
    item stand in the order in which they are filled in.
    """
    if not contents:  # deltas, most of all
        return items, []
    kept, quotes = list(items), []
    for index, event in enumerate(events):
        if not isinstance(event, _REPEATING):
            continue
        whole, end = items[index], 0
        pieces: list[bytes] = []
        for at, to, found in sorted(_found_in(event, whole, contents)):
            if at >= end:
                pieces.append(whole[end:at])
                quotes.append(f"{index + 1} {at} {found}")
                end = to
        if pieces:
            kept[index] = b"".join((*pieces, whole[end:]))
    return kept, quotes


def _found_in(event: Event, item: bytes, contents: Sequence[bytes]) -> Iterator[tuple[int, int, str]]:
    """Where in the item a value stands, from and to, and where it stands in the contents."""
    for value in _repeated_by(event):
        if isinstance(value, str) and len(value) < _MIN_CHARS:
            continue
        encoded = _json.dumps(value)
        at = item.find(encoded) if len(encoded) >= _MIN_CHARS else -1
        for number, content in enumerate(contents if at >= 0 else ()):
            start = content.find(encoded)
            if start >= 0:
                yield at, at + len(encoded), f"{number + 1} {start + 1} {start + len(encoded)}"
                break


def _repeated_by(event: Event) -> tuple[Any, ...]:
    """What the transcript holds as well, if the event tells of something that is added to it."""
    if isinstance(event, ToolFinished):
        return (event.content,) if event.data is None else (event.content, event.data)
    if isinstance(event, ToolFailed):
        return (event.content,)
    if isinstance(event, ReplyCompleted):
        return (event.text,)
    return (event.output,) if isinstance(event, RunCompleted) else ()
