"""Messages keep what they hold, to the letter, and say which calls nobody answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentq.errors import StoreCorrupted
from agentq.messages import (
    CompactionRecord,
    FilePart,
    Message,
    NoteKind,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    decode_message,
    encode_message,
    note_message,
    results_message,
    unanswered_calls,
    user_message,
)


def calls(*call_ids: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=tuple(ToolCallPart(call_id=call_id, name="f") for call_id in call_ids))


def results(*call_ids: str) -> Message:
    return results_message(ToolResultPart(call_id=call_id, name="f", content="1") for call_id in call_ids)


letters = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | letters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
    max_leaves=8,
)
parts = st.one_of(
    st.builds(TextPart, text=letters),
    st.builds(ReasoningPart, text=letters, signature=st.none() | letters),
    st.builds(FilePart, url=letters, media_type=letters, name=st.none() | letters),
    st.builds(
        ToolCallPart,
        call_id=letters,
        name=letters,
        arguments=st.dictionaries(letters, json_values, max_size=3),
        provider_call_id=st.none() | letters,
        arguments_error=st.none() | letters,
    ),
    st.builds(
        ToolResultPart,
        call_id=letters,
        name=letters,
        content=letters,
        outcome=st.sampled_from(["ok", "error", "unknown", "cancelled"]),
    ),
)
messages = st.builds(
    Message,
    role=st.sampled_from(Role),
    parts=st.lists(parts, max_size=4).map(tuple),
    model=st.none() | letters,
    stop_reason=st.none() | st.sampled_from(StopReason),
    usage=st.none() | st.builds(Usage, input_tokens=st.integers(0), output_tokens=st.integers(0, 10**9)),
    note=st.none() | st.sampled_from(NoteKind),
    compacted=st.none()
    | st.builds(
        CompactionRecord,
        strategy=st.sampled_from(["tool_results", "whitespace", "summary", "dropped"]),
        left_out=st.integers(0, 10**6),
        kept=st.none() | st.integers(0, 10**6),
    ),
)


class TestStoredForm:
    @given(messages)
    def test_what_is_encoded_comes_back(self, message: Message):
        assert decode_message(encode_message(message)) == message

    def test_it_is_json_without_empty_fields(self):
        assert json.loads(encode_message(user_message("hi"))) == {
            "role": "user",
            "parts": [{"type": "text", "text": "hi"}],
        }

    def test_a_large_message_comes_back(self):
        message = user_message("\U0001f680é" * 100_000)
        assert decode_message(encode_message(message)) == message

    def test_fields_of_a_newer_version_are_ignored(self):
        stored = '{"role":"user","mood":"good","parts":[{"type":"text","text":"hi","colour":"red"}]}'
        assert decode_message(stored) == user_message("hi")

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"role":"user"}', b'{"role":"king","parts":[]}', b"\xff"])
    def test_what_cannot_be_read_says_so(self, data: bytes):
        with pytest.raises(StoreCorrupted):
            decode_message(data)

    def test_a_part_of_an_unknown_type_is_not_dropped_silently(self):
        with pytest.raises(StoreCorrupted):
            decode_message('{"role":"user","parts":[{"type":"hologram"}]}')


class TestMessage:
    def test_text_is_what_the_text_parts_say(self):
        message = Message(
            role=Role.ASSISTANT,
            parts=(ReasoningPart(text="hm"), TextPart(text="It is "), *calls("a").parts, TextPart(text="16.")),
        )
        assert message.text == "It is 16."
        assert [call.call_id for call in message.tool_calls] == ["a"]
        assert message.tool_results == ()

    def test_results_keep_their_order(self):
        assert [result.call_id for result in results("b", "a").tool_results] == ["b", "a"]
        assert results("a").role is Role.TOOL

    def test_only_ok_is_no_error(self):
        part = ToolResultPart(call_id="a", name="f", content="")
        outcomes = ("ok", "error", "unknown", "cancelled")
        made = [part.model_copy(update={"outcome": outcome}) for outcome in outcomes]
        assert [part.is_error for part in made] == [False, True, True, True]

    def test_notes_are_of_the_system(self):
        note = note_message("The call failed.", NoteKind.PROVIDER_ERROR)
        assert (note.role, note.note, note.text) == (Role.SYSTEM, NoteKind.PROVIDER_ERROR, "The call failed.")

    def test_messages_do_not_change(self):
        with pytest.raises(ValidationError):
            user_message("hi").role = Role.SYSTEM


def test_usage_adds_up():
    total = Usage(input_tokens=1, output_tokens=2) + Usage(
        input_tokens=10, output_tokens=20, cached_input_tokens=3, reasoning_tokens=4
    )
    assert total == Usage(input_tokens=11, output_tokens=22, cached_input_tokens=3, reasoning_tokens=4)


class TestUnansweredCalls:
    def test_a_transcript_without_calls_has_none(self):
        assert unanswered_calls([]) == ()
        assert unanswered_calls([user_message("hi")]) == ()

    def test_each_call_wants_its_own_result(self):
        assert unanswered_calls([calls("a", "b", "c"), results("b")]) == ("a", "c")
        assert unanswered_calls([calls("a", "b"), results("b", "a")]) == ()
        assert unanswered_calls([calls("a"), results("a"), calls("b"), results("b"), calls("c")]) == ("c",)

    def test_a_result_before_its_call_is_no_answer(self):
        assert unanswered_calls([results("a"), calls("a")]) == ("a",)

    def test_results_may_come_in_several_messages(self):
        assert unanswered_calls([calls("a", "b"), results("a"), user_message("hm"), results("b")]) == ()
