"""AG-UI: the order of frames is always one that its client takes, and who comes back gets what was missed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from agentq.events.model import (
    Gap,
    ReplyCompleted,
    RunCompleted,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFinished,
)
from agentq.messages import Message, Role, TextPart, user_message
from agentq.web.streams.ag_ui import APPROVAL_SCHEMA, AGUIFold
from agentq.web.streams.frames import Projection, ends_turn
from tests.unit._logs import FILE, RUN, SOME, Log, logs, wild_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentq.events.model import Event
    from agentq.web.streams.frames import Frame

HISTORY = ({"id": "u1", "role": "user", "content": "Take 7 + 9"},)


def frames_of(events: Iterable[Event], *, begins_after: int = 0, history: Any = HISTORY) -> list[Frame]:
    projection = Projection(AGUIFold("thread", "turn", history=history), begins_after=begins_after)
    frames: list[Frame] = []
    for event in events:
        frames += projection.take(event)
        if projection.ends(event):
            return [*frames, *projection.closing()]
    return frames


def turns_of(events: list[Event]) -> list[int]:
    """After which events turns begin."""
    ends = [event.seq for event in events if ends_turn(event)]
    return [0, *(seq for seq in ends if seq < events[-1].seq)]


class Client:
    """What `@ag-ui/client` checks (its verify.ts), and the conversation that it keeps (its apply/default.ts)."""

    def __init__(self, history: Iterable[Any] = HISTORY) -> None:
        self.messages: list[dict[str, Any]] = [dict(message) for message in history]
        self.open: set[tuple[str, str]] = set()
        self.gone_children: set[str] = set()
        self.is_on = False
        self.is_over = False

    def take(self, body: Any) -> None:
        kind = body["type"]
        assert not self.is_over, f"{kind} after the end"
        assert self.is_on or kind == "RUN_STARTED"
        match kind:
            case "RUN_STARTED":
                assert not self.is_on
                self.is_on = True
            case "RUN_FINISHED":
                assert not self.open
                self.is_over = True
            case "RUN_ERROR":
                self.is_over = True
            case "STEP_STARTED" | "STEP_FINISHED":
                self.bracket("step", body["stepName"], opens=kind.endswith("STARTED"))
            case "MESSAGES_SNAPSHOT":
                self.snapshot(body["messages"])
            case "SUBAGENT_STARTED":
                assert body["subagentRunId"] not in self.gone_children
                self.bracket("child", body["subagentRunId"], opens=True)
            case "SUBAGENT_FINISHED" | "SUBAGENT_ERROR":
                self.bracket("child", body["subagentRunId"], opens=False)
                self.gone_children.add(body["subagentRunId"])
            case _:
                self.part(kind, body)

    def part(self, kind: str, body: Any) -> None:
        family, _, what = kind.rpartition("_")
        if family in ("TEXT_MESSAGE", "REASONING_MESSAGE", "REASONING"):
            part_id = body["messageId"]
            if what != "CONTENT":
                self.bracket(family, part_id, opens=what == "START")
            else:
                assert (family, part_id) in self.open
                self.message(part_id)["content"] += body["delta"]
            if what == "START" and family != "REASONING":
                assert not self.has(part_id)
                self.messages.append({"id": part_id, "role": body["role"], "content": ""})
        elif kind in ("TOOL_CALL_START", "TOOL_CALL_END"):
            self.bracket("call", body["toolCallId"], opens=what == "START")
            if what == "START":
                call = {"id": body["toolCallId"], "function": {"name": body["toolCallName"], "arguments": ""}}
                parent = body["parentMessageId"]
                if not self.has(parent):
                    self.messages.append({"id": parent, "role": "assistant"})
                self.message(parent).setdefault("toolCalls", []).append(call)
        elif kind == "TOOL_CALL_ARGS":
            assert ("call", body["toolCallId"]) in self.open
            (call,) = (
                call
                for message in self.messages
                for call in message.get("toolCalls", ())
                if call["id"] == body["toolCallId"]
            )
            call["function"]["arguments"] += body["delta"]
        elif kind == "TOOL_CALL_RESULT":
            assert not self.has(body["messageId"])
            self.messages.append({"id": body["messageId"], "role": "tool", "content": body["content"]})
        else:
            assert kind == "CUSTOM"
            assert body["name"].startswith("agentq.")

    def bracket(self, family: str, name: str, *, opens: bool) -> None:
        assert ((family, name) in self.open) is not opens
        (self.open.add if opens else self.open.discard)((family, name))

    def has(self, message_id: str) -> bool:
        return any(message["id"] == message_id for message in self.messages)

    def message(self, message_id: str) -> dict[str, Any]:
        return next(message for message in self.messages if message["id"] == message_id)

    def snapshot(self, given: Any) -> None:
        found = {message["id"]: copy.deepcopy(message) for message in given}
        decides = any(message["role"] == "reasoning" for message in given)
        kept = [
            found.pop(message["id"], message)
            for message in self.messages
            if message["id"] in found or (message["role"] == "reasoning" and not decides)
        ]
        self.messages = [*kept, *found.values()]

    def said(self) -> list[Any]:
        """What a person reads, whatever order results came in."""
        shown = [
            (message["id"], message["role"], message.get("content") or "", str(message.get("toolCalls", "")))
            for message in self.messages
            if message.get("content") or message.get("toolCalls")
        ]
        return sorted(shown)


@SOME
@given(st.one_of(logs(), wild_logs()))
def test_every_turn_of_every_log_is_in_the_order_that_the_client_takes(log: Log):
    for begins_after in turns_of(log.seen):
        client = Client()
        client.messages = []
        frames = frames_of(log.seen, begins_after=begins_after)
        for frame in frames:
            if frame.body["type"] == "TOOL_CALL_RESULT":
                assert frame.body["messageId"].endswith(".result")
            client.take(frame.body)
        assert [frame.cursor for frame in frames] == sorted(
            {frame.cursor for frame in frames}, key=lambda cursor: tuple(map(int, cursor.split(".")))
        )
        if any(event.seq > begins_after and ends_turn(event) for event in log.seen):
            assert client.is_over


@SOME
@given(st.one_of(logs(), wild_logs()), st.data())
def test_who_was_cut_off_has_the_same_conversation_in_the_end(log: Log, data: st.DataObject):
    live = frames_of(log.seen)
    late = frames_of(log.late())
    assert [(frame.cursor, frame.body["type"]) for frame in late] == [
        (frame.cursor, frame.body["type"]) for frame in live
    ]
    cut = data.draw(st.integers(0, len(live)))
    whole, resumed = Client(), Client()
    for frame in live:
        whole.take(frame.body)
    for frame in live[:cut]:
        resumed.take(frame.body)
    seen = live[cut - 1] if cut else None
    for frame in late:
        if seen is None or frame > seen:
            resumed.take(frame.body)
    # Only a reply that is not complete, and was given up while somebody was away, could differ; the reset says so.
    assert resumed.said() == whole.said()


def told(*events: Event, **options: Any) -> list[Any]:
    log = Log()
    for event in events:
        log.add(event)
    bodies = [dict(frame.body) for frame in frames_of(log.seen, **options)]
    for body in bodies:
        del body["timestamp"]
    return bodies


def test_a_reply_that_did_not_stream_comes_whole():
    reply = ReplyCompleted(turn=1, text="It is 16.", reasoning="7 and 9")
    types = [body["type"] for body in told(reply)]
    assert types == [
        "RUN_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
    ]


def test_a_question_ends_the_turn_and_says_how_to_answer():
    call_id = f"{RUN}.1.0"
    approval = RunWaiting(call_id=call_id, name="pay", text="?", kind="approval", arguments={"n": 1}, until_ms=1_000)
    *_, finished = told(approval)
    (interrupt,) = finished["outcome"]["interrupts"]
    assert finished["outcome"]["type"] == "interrupt"
    assert (interrupt["id"], interrupt["toolCallId"]) == (f"{call_id}@1", call_id)
    assert (interrupt["responseSchema"], interrupt["expiresAt"]) == (APPROVAL_SCHEMA, "1970-01-01T00:00:01+00:00")
    schema = {"enum": ["S", "M"]}
    question = RunWaiting(call_id=call_id, name="order", text="Which size?", kind="input", answer_schema=schema)
    (interrupt,) = told(question)[-1]["outcome"]["interrupts"]
    assert (interrupt["reason"], interrupt["message"], interrupt["responseSchema"]) == ("input", "Which size?", schema)
    assert "expiresAt" not in interrupt


def test_calls_of_one_reply_are_in_one_message_and_bring_their_files():
    first, second = (ToolCalled(call_id=f"{RUN}.1.{index}", name="add", arguments={"a": 1}) for index in range(2))
    finished = ToolFinished(call_id=first.call_id, name="add", content="plot", files=(FILE,))
    bodies = told(TextDelta(text="Let me see."), ReplyCompleted(turn=1, text="Let me see."), first, second, finished)
    parents = {body["parentMessageId"] for body in bodies if body["type"] == "TOOL_CALL_START"}
    assert parents == {f"{RUN}.1"}
    assert bodies[-1]["content"] == [
        {"type": "text", "text": "plot"},
        {
            "type": "image",
            "source": {"type": "url", "value": "agentq:abc", "mimeType": "image/png"},
            "metadata": {"name": "plot.png"},
        },
    ]


def test_a_call_that_is_the_work_of_another_run_is_a_subagent():
    called = ToolCalled(call_id=f"{RUN}.1.0", name="ask", child_run_id="CHILD")
    finished = ToolFinished(call_id=called.call_id, name="ask", content="done")
    types = [body["type"] for body in told(called, finished)]
    assert types[-3:] == ["SUBAGENT_STARTED", "SUBAGENT_FINISHED", "TOOL_CALL_RESULT"]


def test_the_end_brings_the_output_and_what_it_took():
    finished = told(RunCompleted(output="16", iterations=2))[-1]
    assert (finished["outcome"], finished["result"]) == ({"type": "success"}, {"output": "16", "iterations": 2})
    assert finished["usage"][0]["totalTokens"] == 0


def test_a_reply_of_which_a_part_was_trimmed_comes_whole_or_not_at_all():
    gap = Gap(run_id=RUN, seq=5, first=1, last=5)
    rest: list[Event] = [
        TextDelta(run_id=RUN, seq=6, text="6."),
        ReplyCompleted(run_id=RUN, seq=7, turn=1, text="It is 16."),
    ]
    client = Client(())
    for frame in frames_of([gap, *rest], history=()):
        client.take(frame.body)
    assert [message["content"] for message in client.messages] == ["It is 16."]


def test_where_redis_went_back_in_time_the_conversation_is_said_again():
    log = Log()
    log.add(TextDelta(text="It is "))
    log.complete()
    transcript = (user_message("Take 7 + 9"), Message(role=Role.ASSISTANT, parts=(TextPart(text="Hm."),)))
    gap = Gap(run_id=RUN, seq=1, first=2, last=2, messages=transcript)
    client = Client(())
    for frame in frames_of([*log.seen, gap], history=()):
        client.take(frame.body)
    assert [message["content"] for message in client.messages] == ["Take 7 + 9", "Hm."]
