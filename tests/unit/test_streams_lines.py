"""Lines of chat products: parts come whole in the end, and who comes late is told the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentq.events.model import (
    Gap,
    ReplyCompleted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.web.streams.chat_lines import ChatLinesFold
from tests.unit._logs import FILE, RUN, SOME, Log, logs, wild_logs

CALL = f"{RUN}.1.0"


def lines_of(events: Any) -> list[Any]:
    fold = ChatLinesFold(RUN, "s")
    return [each for event in events for pieces in [fold.take(event)] for each in (*pieces.body, *pieces.closing)]


def parts_of(lines: list[Any]) -> dict[str, Any]:
    """What a client shows in the end: each part as it came last, text as its deltas made it."""
    parts: dict[str, Any] = {}
    for each in lines:
        if each["type"] != "message.part.updated":
            continue
        part = dict(each["data"]["part"])
        text = parts.get(part["id"], {}).get("text", "") + each["data"].get("delta", "")
        if part["state"] == "removed":
            parts.pop(part["id"], None)
            continue
        if part["state"] == "done":
            assert text in ("", part["text"])
        elif part["type"] in ("text", "reasoning"):
            part["text"] = text
        parts[part["id"]] = part
    return parts


@SOME
@given(st.one_of(logs(), wild_logs()))
def test_who_comes_late_is_shown_the_same(log: Log):
    live, late = lines_of(log.seen), lines_of(log.late())
    assert [each["type"] for each in late] == [each["type"] for each in live]
    assert live[0]["type"] == "session.run.started"
    assert parts_of(late) == parts_of(live)


def told(*events: Any) -> list[Any]:
    log = Log()
    for event in events:
        log.add(event)
    return lines_of(log.seen)


def test_text_comes_in_pieces_and_then_whole():
    lines = told(TextDelta(text="It is "), TextDelta(text="16."), ReplyCompleted(turn=1, text="It is 16."))
    assert [each["data"].get("delta") for each in lines] == [None, "It is ", "16.", None]
    assert lines[-1]["data"]["part"] == {"id": "1", "type": "text", "state": "done", "text": "It is 16."}


def test_a_call_is_one_part():
    lines = told(
        ToolCalled(call_id=CALL, name="plot", arguments={"n": 1}),
        ToolProgress(call_id=CALL, name="plot", message="half", fraction=0.5),
        ToolFinished(call_id=CALL, name="plot", content="a plot", files=(FILE,), data=[1]),
    )
    parts = [each["data"]["part"] for each in lines[1:]]
    assert [part["state"] for part in parts] == ["running", "running", "completed"]
    assert parts[1]["progress"] == {"message": "half", "fraction": 0.5}
    assert parts[2] == {
        "id": CALL,
        "type": "tool",
        "name": "plot",
        "state": "completed",
        "input": {"n": 1},
        "output": "a plot",
        "data": [1],
        "files": [{"url": "agentq:abc", "media_type": "image/png", "name": "plot.png", "size": 3}],
    }
    failed = told(ToolFailed(call_id=CALL, name="plot", content="no"))[-1]["data"]["part"]
    assert (failed["state"], failed["error"], failed["outcome"]) == ("error", "no", "error")


def test_a_question_is_a_part_until_it_is_answered():
    waiting = RunWaiting(call_id=CALL, name="pay", text="?", kind="approval")
    asked, said = told(waiting, RunAnswered(call_id=CALL, name="pay", answer="approved"))[1:]
    assert (asked["data"]["part"]["id"], asked["data"]["part"]["state"]) == (f"{CALL}@1", "waiting")
    assert (said["data"]["part"]["state"], said["data"]["part"]["answer"]) == ("answered", "approved")


def test_every_end_has_its_line():
    types = {
        event: [each["type"] for each in told(event)][1:]
        for event in (RunCompleted(output="16"), RunFailedEvent(reason="no"), RunCancelledEvent())
    }
    assert list(types.values()) == [
        ["result", "session.run.completed"],
        ["error", "session.run.failed"],
        ["error", "session.run.failed"],
    ]


def test_after_a_gap_a_torn_reply_comes_whole():
    gap = Gap(run_id=RUN, seq=5, first=1, last=5)
    lines = lines_of([gap, TextDelta(run_id=RUN, seq=6, text="6."), ReplyCompleted(seq=7, turn=1, text="It is 16.")])
    assert [part["text"] for part in parts_of(lines).values()] == ["It is 16."]
