"""Chunks become one message: parts in order, calls with ids of ours, arguments read or explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.errors import ProviderError
from agentq.messages import (
    Message,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
    decode_message,
    encode_message,
)
from agentq.providers.base import Chunk, ReasoningChunk, ReplyEnd, TextChunk, ToolCallChunk
from agentq.providers.reply import UNNAMED, ReplyBuilder

END = ReplyEnd(StopReason.END)
CALLS = ReplyEnd(StopReason.TOOL_CALLS)


def build(*chunks: Chunk) -> Message:
    builder = ReplyBuilder()
    for chunk in chunks:
        builder.add(chunk)
    return builder.finish("RUN", 3)


def one_call(*chunks: ToolCallChunk) -> ToolCallPart:
    (call,) = build(*chunks, CALLS).tool_calls
    return call


def test_text_is_one_part():
    """Text chunks join to one part; the end carries model, stop reason and usage."""
    usage = Usage(input_tokens=3, output_tokens=2)
    reply = build(TextChunk("Hello "), TextChunk("world"), ReplyEnd(StopReason.END, usage, "m-1"))
    assert reply == Message(
        role=Role.ASSISTANT,
        parts=(TextPart(text="Hello world"),),
        model="m-1",
        stop_reason=StopReason.END,
        usage=usage,
    )


def test_parts_keep_the_order_of_their_first_chunk():
    """Reasoning, text and calls stand where they began, even if a call goes on later."""
    reply = build(
        ReasoningChunk("I should "),
        ReasoningChunk("add."),
        TextChunk("Adding."),
        ToolCallChunk(0, "add", '{"a":'),
        TextChunk("And "),
        ToolCallChunk(0, arguments=" 1}"),
        TextChunk("done."),
        CALLS,
    )
    assert reply.parts == (
        ReasoningPart(text="I should add."),
        TextPart(text="Adding."),
        ToolCallPart(call_id="RUN.3.0", name="add", arguments={"a": 1}),
        TextPart(text="And done."),
    )


def test_empty_pieces_leave_nothing_behind():
    """Providers open blocks with empty text; an empty part would be refused when it is sent back."""
    assert build(TextChunk(""), ReasoningChunk(""), END).parts == ()
    assert build(ReasoningChunk("a"), TextChunk(""), ReasoningChunk("b"), END).parts == (ReasoningPart(text="ab"),)


def test_a_signature_closes_its_reasoning():
    """A signature belongs to the part before it, and the next reasoning is a part of its own."""
    reply = build(
        ReasoningChunk("one"),
        ReasoningChunk("", "sig-1"),
        ReasoningChunk("two"),
        ReasoningChunk("", "sig-2"),
        ReasoningChunk("", "sig-3"),
        END,
    )
    assert reply.parts == (
        ReasoningPart(text="one", signature="sig-1"),
        ReasoningPart(text="two", signature="sig-2"),
        ReasoningPart(text="", signature="sig-3"),
    )


def test_calls_are_numbered_in_order_of_appearance():
    """The provider's indexes only tell calls apart; the ids count from 0."""
    reply = build(
        ToolCallChunk(7, "a", "{", "p7"),
        ToolCallChunk(2, "b", "", "p2"),
        ToolCallChunk(7, arguments="}"),
        CALLS,
    )
    assert [(call.call_id, call.name, call.provider_call_id) for call in reply.tool_calls] == [
        ("RUN.3.0", "a", "p7"),
        ("RUN.3.1", "b", "p2"),
    ]


def test_a_new_provider_id_under_the_same_index_is_another_call():
    """Some compatible servers send all calls under index 0."""
    reply = build(ToolCallChunk(0, "a", '{"n": 1}', "p1"), ToolCallChunk(0, "b", '{"n": 2}', "p2"), CALLS)
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("a", {"n": 1}), ("b", {"n": 2})]


def test_repeated_names_and_ids_change_nothing():
    """Some servers repeat name and id in every fragment."""
    call = one_call(ToolCallChunk(0, "add", '{"a"', "p1"), ToolCallChunk(0, "add", ": 1}", "p1"))
    assert (call.name, call.arguments, call.provider_call_id) == ("add", {"a": 1}, "p1")


def test_name_and_id_may_come_late():
    call = one_call(ToolCallChunk(0, arguments="{"), ToolCallChunk(0, "add", "}", "p1"))
    assert (call.name, call.provider_call_id, call.arguments_error) == ("add", "p1", None)


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_no_arguments_are_an_empty_object(text):
    call = one_call(ToolCallChunk(0, "now", text))
    assert (call.arguments, call.arguments_error) == ({}, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1', "not valid JSON"),
        ('{"a": 1} and more', "not valid JSON"),
        ("a=1", "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a": "\\ud800"}', "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('"{}"', "must be a JSON object"),
        ("null", "must be a JSON object"),
    ],
)
def test_bad_arguments_are_explained(text, reason):
    """The model reads what was wrong, with the beginning of what it sent; nothing half-read gets through."""
    call = one_call(ToolCallChunk(0, "add", text))
    assert call.arguments == {}
    assert call.arguments_error is not None
    assert reason in call.arguments_error
    assert text[:10] in call.arguments_error
    assert len(call.arguments_error) < 250


@pytest.mark.parametrize("name", [None, "", "  "])
def test_a_call_without_a_name_gets_one_that_can_be_sent_back(name):
    """It is not run, since it has an `arguments_error`; its name is not empty, since providers refuse that."""
    call = one_call(ToolCallChunk(0, name, '{"a": 1}', "p1"))
    assert call == ToolCallPart(
        call_id="RUN.3.0",
        name=UNNAMED,
        arguments={"a": 1},
        provider_call_id="p1",
        arguments_error="the call names no tool",
    )


@pytest.mark.parametrize(
    ("sent", "with_calls", "without"),
    [
        (StopReason.END, StopReason.TOOL_CALLS, StopReason.END),
        (StopReason.TOOL_CALLS, StopReason.TOOL_CALLS, StopReason.END),
        (StopReason.MAX_TOKENS, StopReason.MAX_TOKENS, StopReason.MAX_TOKENS),
        (StopReason.REFUSAL, StopReason.REFUSAL, StopReason.REFUSAL),
        (StopReason.CONTENT_FILTER, StopReason.CONTENT_FILTER, StopReason.CONTENT_FILTER),
    ],
)
def test_end_and_tool_calls_follow_what_the_reply_holds(sent, with_calls, without):
    assert build(ToolCallChunk(0, "a"), ReplyEnd(sent)).stop_reason is with_calls
    assert build(TextChunk("a"), ReplyEnd(sent)).stop_reason is without


def test_a_cut_stream_is_worth_another_attempt():
    with pytest.raises(ProviderError, match="the stream was cut before the reply was complete") as caught:
        build(TextChunk("Hello"))
    assert caught.value.retryable


@pytest.mark.parametrize("chunk", [TextChunk("x"), ReasoningChunk("x"), ToolCallChunk(0, "x"), END])
def test_nothing_comes_after_the_end(chunk):
    with pytest.raises(ProviderError, match="after the end"):
        build(END, chunk)


def test_what_came_so_far_can_be_read():
    """A cancelled run keeps the partial text."""
    builder = ReplyBuilder()
    assert (builder.text, builder.reasoning) == ("", "")
    for chunk in (ReasoningChunk("hm"), TextChunk("a"), ToolCallChunk(0, "t"), TextChunk("b"), ReasoningChunk("m")):
        builder.add(chunk)
    assert (builder.text, builder.reasoning) == ("ab", "hmm")


_text = st.text(max_size=5)
_chunks = st.one_of(
    st.builds(TextChunk, _text),
    st.builds(ReasoningChunk, _text, st.none() | _text),
    st.builds(ToolCallChunk, st.integers(0, 3), st.none() | _text, st.sampled_from(["", "{", "}", '"a":1']), _text),
)


@given(st.lists(_chunks))
def test_any_stream_gives_a_message_that_can_be_stored(chunks):
    """No text is lost, calls are numbered without holes, and the stored form reads back as the same message."""
    reply = build(*chunks, END)
    assert reply.text == "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk))
    assert [call.call_id for call in reply.tool_calls] == [f"RUN.3.{i}" for i in range(len(reply.tool_calls))]
    assert all(call.name for call in reply.tool_calls)
    assert decode_message(encode_message(reply)) == reply


@pytest.mark.parametrize("arguments", ['{"a": 1e999}', '{"a": [-1e999]}', f'{{"a": {"[" * 150}{"]" * 150}}}'])
def test_arguments_that_could_not_be_read_back_are_an_error(arguments):
    reply = build(ToolCallChunk(0, "t", arguments), END)
    (made,) = reply.tool_calls
    assert made.arguments == {}
    assert "nested too deep" in (made.arguments_error or "")
    assert decode_message(encode_message(reply)) == reply
