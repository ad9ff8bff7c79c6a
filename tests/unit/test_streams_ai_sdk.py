"""The AI SDK's stream: the order of chunks is always one that `useChat` takes, and who comes back misses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from agentq.events.model import (
    Gap,
    ReplyCompleted,
    RunAnswered,
    RunCompleted,
    RunFailedEvent,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
)
from agentq.web.streams.ai_sdk import AISDKFold
from agentq.web.streams.frames import Projection, ends_turn
from tests.unit._logs import FILE, RUN, SOME, Log, logs, wild_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentq.events.model import Event
    from agentq.web.streams.frames import Frame

CALL = f"{RUN}.1.0"


def frames_of(events: Iterable[Event], *, begins_after: int = 0, passes: bool = False) -> list[Frame]:
    """The frames of a turn; with `passes`, of all that are there."""
    projection = Projection(AISDKFold(RUN), begins_after=begins_after)
    frames: list[Frame] = []
    for event in events:
        frames += projection.take(event)
        if projection.ends(event) and not passes:
            return [*frames, *projection.closing()]
    return frames


class Client:
    """What `processUIMessageStream` of the npm package `ai` checks, and the message that it builds."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.active: dict[tuple[str, str], dict[str, Any]] = {}
        self.finishes = 0

    def take(self, chunk: Any) -> None:
        kind = chunk["type"]
        assert not self.finishes
        match kind:
            case "start" | "abort" | "error" | "finish-step":
                pass
            case "finish":
                assert not self.active
                self.finishes += 1
            case "start-step":
                assert not self.active
                self.parts.append({"type": "step-start"})
            case "reset-step":
                self.active.clear()
                starts = [at for at, part in enumerate(self.parts) if part["type"] == "step-start"]
                del self.parts[starts[-1] + 1 :]
            case "text-start" | "reasoning-start" | "text-delta" | "reasoning-delta" | "text-end" | "reasoning-end":
                self.text(kind, chunk)
            case "file":
                self.parts.append(chunk)
            case _ if kind.startswith("data-agentq-"):
                self.data(chunk)
            case _:
                self.tool(kind, chunk)

    def text(self, type_: str, chunk: Any) -> None:
        kind, _, what = type_.partition("-")
        key = (kind, chunk["id"])
        if what == "start":
            assert key not in self.active
            assert self.parts
            self.active[key] = {"type": kind, "text": ""}
            self.parts.append(self.active[key])
        elif what == "delta":
            self.active[key]["text"] += chunk["delta"]
        else:
            del self.active[key]

    def data(self, chunk: Any) -> None:
        if chunk.get("transient"):
            return
        for part in self.parts:
            if part.get("id") == chunk["id"]:
                part["data"] = chunk["data"]
                return
        self.parts.append(dict(chunk))

    def tool(self, kind: str, chunk: Any) -> None:
        if kind == "tool-input-available":
            assert not [part for part in self.parts if part.get("call") == chunk["toolCallId"]]
            self.parts.append({"type": "tool", "call": chunk["toolCallId"], "state": kind})
            return
        key = "approval" if kind == "tool-approval-response" else "call"
        found = chunk["approvalId" if key == "approval" else "toolCallId"]
        (part,) = (part for part in self.parts if part.get(key) == found)
        part["state"] = kind
        if kind == "tool-approval-request":
            part["approval"] = chunk["approvalId"]
        elif kind == "tool-output-available":
            part["output"] = chunk["output"]


@SOME
@given(st.one_of(logs(), wild_logs()))
def test_turns_one_after_the_other_build_one_message(log: Log):
    client = Client()
    ends = [event.seq for event in log.seen if ends_turn(event)]
    for begins_after in [0, *(seq for seq in ends if seq < log.seen[-1].seq)]:
        client.finishes = 0
        frames = frames_of(log.seen, begins_after=begins_after)
        assert frames[0].body["type"] == "start"
        for frame in frames:
            client.take(frame.body)
        assert client.finishes == any(event.seq > begins_after for event in log.seen if ends_turn(event))


@SOME
@given(st.one_of(logs(), wild_logs()))
def test_a_replay_of_the_whole_run_builds_the_same_message(log: Log):
    client, parts = Client(), Client()
    for frame in frames_of(log.late(), passes=True):
        client.take(frame.body)
    ends = [event.seq for event in log.seen if ends_turn(event)]
    for begins_after in [0, *(seq for seq in ends if seq < log.seen[-1].seq)]:
        parts.finishes = 0
        for frame in frames_of(log.seen, begins_after=begins_after):
            parts.take(frame.body)
    assert client.parts == parts.parts


@SOME
@given(st.one_of(logs(), wild_logs()), st.data())
def test_who_was_cut_off_has_the_same_message_in_the_end(log: Log, data: st.DataObject):
    live, late = frames_of(log.seen), frames_of(log.late())
    assert [(frame.cursor, frame.body["type"]) for frame in late] == [
        (frame.cursor, frame.body["type"]) for frame in live
    ]
    cut = data.draw(st.integers(0, len(live)))
    whole, resumed = Client(), Client()
    for frame in live:
        whole.take(frame.body)
    for frame in [*live[:cut], *late[cut:]]:
        resumed.take(frame.body)
    assert resumed.parts == whole.parts


def told(*events: Event, **options: Any) -> list[Any]:
    log = Log()
    for event in events:
        log.add(event)
    return [frame.body for frame in frames_of(log.seen, **options)]


def types(*events: Event, **options: Any) -> list[str]:
    return [chunk["type"] for chunk in told(*events, **options)]


def test_a_reply_that_did_not_stream_comes_whole_and_in_a_step():
    assert types(ReplyCompleted(turn=1, text="It is 16.")) == [
        "start", "start-step", "text-start", "text-delta", "text-end"
    ]  # fmt: skip


def test_a_call_that_waits_for_approval_ends_the_turn():
    waiting = RunWaiting(call_id=CALL, name="pay", text="pay has to be allowed", kind="approval", arguments={"n": 1})
    chunks = told(waiting)
    assert [chunk["type"] for chunk in chunks] == [
        "start", "start-step", "tool-input-available", "tool-approval-request", "finish-step", "finish"
    ]  # fmt: skip
    assert (chunks[2]["input"], chunks[3]["approvalId"]) == ({"n": 1}, f"{CALL}@1")


def test_the_next_turn_begins_with_what_somebody_said():
    waiting = RunWaiting(call_id=CALL, name="pay", text="?", kind="approval")
    answered = RunAnswered(call_id=CALL, name="pay", answer="approved")
    called = ToolCalled(call_id=CALL, name="pay")
    finished = ToolFinished(call_id=CALL, name="pay", content="paid", data={"paid": 1})
    chunks = told(waiting, answered, called, finished, begins_after=1)
    assert [chunk["type"] for chunk in chunks] == ["start", "tool-approval-response", "tool-output-available"]
    assert (chunks[1]["approved"], chunks[2]["output"]) == (True, {"paid": 1})


def test_a_denied_call_is_denied():
    waiting = RunWaiting(call_id=CALL, name="pay", text="?", kind="approval")
    answered = RunAnswered(call_id=CALL, name="pay", answer="denied", reason="too much")
    failed = ToolFailed(call_id=CALL, name="pay", content="pay was denied: too much")
    response, output = told(waiting, answered, failed, begins_after=1)[1:]
    assert (response["approved"], response["reason"]) == (False, "too much")
    assert output == {"type": "tool-output-denied", "toolCallId": CALL}


def test_a_question_is_a_part_that_is_answered_in_place():
    schema = {"enum": ["S", "M"]}
    waiting = RunWaiting(call_id=CALL, name="order", text="Which size?", kind="input", answer_schema=schema)
    answered = RunAnswered(call_id=CALL, name="order", answer="input")
    chunks = told(waiting, answered, passes=True)
    (asked, said) = (chunk for chunk in chunks if chunk["type"] == "data-agentq-input")
    assert (asked["id"], asked["data"]["schema"], asked["data"]["answer"]) == (f"{CALL}@1", schema, None)
    assert (said["id"], said["data"]["answer"]) == (asked["id"], "input")


def test_files_of_a_result_are_parts():
    finished = ToolFinished(call_id=CALL, name="plot", content="a plot", files=(FILE,))
    assert told(finished)[-1] == {"type": "file", "url": "agentq:abc", "mediaType": "image/png"}


def test_every_end_has_its_finish():
    assert types(RunCompleted(output="16"))[-1:] == ["finish"]
    assert types(RunFailedEvent(reason="no"))[-2:] == ["error", "finish"]


def test_after_a_gap_a_torn_reply_comes_whole():
    gap = Gap(run_id=RUN, seq=5, first=1, last=5)
    rest: list[Event] = [
        TextDelta(run_id=RUN, seq=6, text="6."),
        ReplyCompleted(run_id=RUN, seq=7, turn=1, text="It is 16."),
    ]
    client = Client()
    for frame in frames_of([gap, *rest]):
        client.take(frame.body)
    assert [part.get("text") for part in client.parts] == [None, "It is 16."]
