"""Texts that stand in an event and in what is stored with it are sent once."""

from __future__ import annotations

import pytest

from agentq.events.encoding import encode_event
from agentq.events.model import IterationFinished, ReplyCompleted, RunCompleted, TextDelta, ToolFinished
from agentq.messages import (
    Message,
    Role,
    StopReason,
    TextPart,
    ToolResultPart,
    Usage,
    encode_message,
    results_message,
)
from agentq.stores._quotes import without_repeats

LONG = 'A "quoted" line,\na tab\t, a word of Ελληνικά and 🙂. ' * 5


def filled(items: list[bytes], contents: list[bytes], quotes: list[str]) -> list[bytes]:
    """What `_quotes.lua` makes of it, in Python."""
    whole = list(items)
    for quote in quotes:
        item, at, content, start, end = map(int, quote.split())
        text = contents[content - 1][start - 1 : end]
        whole[item - 1] = whole[item - 1][:at] + text + whole[item - 1][at:]
    return whole


def answer(text: str) -> bytes:
    return encode_message(Message(role=Role.ASSISTANT, parts=(TextPart(text=text),)))


def test_long_texts_are_left_out_and_come_back_byte_for_byte():
    result = ToolResultPart(call_id="R.1.0", name="look", content=LONG[::-1])
    events = (
        ToolFinished(call_id="R.1.0", name="look", content=LONG[::-1]),
        ReplyCompleted(turn=1, text=LONG, stop_reason=StopReason.END),
        IterationFinished(iteration=1, duration_ms=3),
        RunCompleted(output=LONG, usage=Usage(), iterations=1),
    )
    contents = [encode_message(results_message([result])), answer(LONG)]
    items = [b"e" + encode_event(event) for event in events]
    kept, quotes = without_repeats(items, events, contents)
    assert len(quotes) == 3
    assert sum(map(len, kept)) < sum(map(len, items)) - 3 * len(LONG.encode())
    assert filled(kept, contents, quotes) == items


def test_a_long_text_and_its_data_are_both_left_out():
    data = {"rows": [{"name": "ü", "price": 1.0, "none": None}] * 10}
    for content in (LONG, "short"):
        result = ToolResultPart(call_id="R.1.0", name="look", content=content, data=data)
        event = ToolFinished(call_id="R.1.0", name="look", content=content, data=data, duration_ms=3)
        contents, items = [encode_message(results_message([result]))], [b"e" + encode_event(event)]
        kept, quotes = without_repeats(items, (event,), contents)
        assert len(quotes) == (2 if content == LONG else 1)
        assert len(kept[0]) < 150
        assert filled(kept, contents, quotes) == items


@pytest.mark.parametrize(
    ("event", "contents"),
    [
        (RunCompleted(output="short", usage=Usage(), iterations=1), [answer("short")]),
        (RunCompleted(output=LONG, usage=Usage(), iterations=1), [answer(f"{LONG}!")]),
        (RunCompleted(output=LONG, usage=Usage(), iterations=1), []),
        (TextDelta(text=LONG), [answer(LONG)]),
    ],
)
def test_other_texts_are_sent_as_they_are(event: TextDelta | RunCompleted, contents: list[bytes]):
    items = [b"e" + encode_event(event)]
    assert without_repeats(items, (event,), contents) == (items, [])
