"""Chunks of OpenAI and of the servers that are compatible with it become the same reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq.errors import ProviderError
from agentq.messages import Message, ReasoningPart, StopReason, Usage
from agentq.providers._chat_stream import ChatReader
from agentq.providers._sse import Frame
from agentq.providers.reply import CUT, ReplyBuilder
from tests.providers.faults import call, chunk, says, usage


def read(*chunks: Any, done: bool = True) -> Message:
    reader, builder = ChatReader("openai-chat"), ReplyBuilder()
    for each in chunks:
        data = each if isinstance(each, bytes) else json.dumps(each).encode()
        for piece in reader.read(Frame(data)):
            builder.add(piece)
    if done:
        assert list(reader.read(Frame(b"[DONE]"))) == []
    builder.add(reader.end())
    return builder.finish("RUN", 1)


def calls_of(message: Message) -> list[tuple[str, dict[str, Any], str | None]]:
    return [(call.name, call.arguments, call.provider_call_id) for call in message.tool_calls]


def piece(**fields: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [fields]})


def function(name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    return {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}


def test_text_with_usage_and_model():
    reply = read(*says("Hel", "lo"))
    assert (reply.text, reply.model, reply.stop_reason) == ("Hello", "gpt-x", StopReason.END)
    assert reply.usage == Usage(input_tokens=100, output_tokens=7, cached_input_tokens=20, reasoning_tokens=3)


def test_parallel_calls_that_interleave():
    first, second = call(0, "call_1", "add", '{"a": 7}'), call(1, "call_2", "mul", '{"b": 9}')
    mixed = [each for pair in zip(first, second, strict=True) for each in pair]
    reply = read(*mixed, chunk(finish="tool_calls"))
    assert calls_of(reply) == [("add", {"a": 7}, "call_1"), ("mul", {"b": 9}, "call_2")]
    assert reply.stop_reason is StopReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [
                piece(id="a", function=function("f", '{"x":1}')),
                piece(id="b", function=function("g", '{"y":2}')),
            ],
            [("f", {"x": 1}, "a"), ("g", {"y": 2}, "b")],
            id="no index, whole calls",
        ),
        pytest.param(
            [
                piece(id="a", function=function("f", '{"x"')),
                piece(function=function(None, ":1}")),
                piece(id="b", function=function("g", '{"y"')),
                piece(id="a", function=function(None, "")),
                piece(id="b", function=function(None, ":2}")),
            ],
            [("f", {"x": 1}, "a"), ("g", {"y": 2}, "b")],
            id="no index, pieces by id",
        ),
        pytest.param(
            [
                piece(index=0, id="a", function=function("f", '{"x":1}')),
                piece(index=0, id="b", function=function("g", '{"y":2}')),
            ],
            [("f", {"x": 1}, "a"), ("g", {"y": 2}, "b")],
            id="index 0 for all",
        ),
        pytest.param(
            [
                piece(index=0, function=function("f", '{"x":1}')),
                piece(index=0, function=function("f", '{"x":2}')),
            ],
            [("f", {"x": 1}, None), ("f", {"x": 2}, None)],
            id="index 0 for all, no ids",
        ),
        pytest.param(
            [
                piece(index=0, id="a", function=function("f", "")),
                piece(index=0, id="a", function=function("f", '{"x":')),
                piece(index=0, id="a", function=function("f", "1}")),
            ],
            [("f", {"x": 1}, "a")],
            id="id and name repeated",
        ),
        pytest.param(
            [
                piece(index=0, id="a", function=function("f", '{"x":')),
                piece(index=0, id="other", function=function(None, "1}")),
            ],
            [("f", {"x": 1}, "a")],
            id="another id with each piece",
        ),
        pytest.param([piece(index=0, id="a", function=function("f", ""))], [("f", {}, "a")], id="empty arguments"),
        pytest.param([piece(index=0, id="", function={"name": "f"})], [("f", {}, None)], id="no arguments, no id"),
        pytest.param(
            [piece(index=0, id="a", function=function("f", {"x": 1}))], [("f", {"x": 1}, "a")], id="an object"
        ),
        pytest.param(
            [
                piece(index=1, id="b", function=function("g", "{}")),
                piece(index=0, id="a", function=function("f", "{}")),
            ],
            [("g", {}, "b"), ("f", {}, "a")],
            id="indexes out of order",
        ),
    ],
)
def test_calls_as_compatible_servers_send_them(pieces: list[Any], expected: list[Any]):
    """Their finish reason may be "stop" all the same."""
    reply = read(*pieces, chunk(finish="stop"))
    assert calls_of(reply) == expected
    assert [call.arguments_error for call in reply.tool_calls] == [None] * len(expected)
    assert reply.stop_reason is StopReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", StopReason.END),
        ("eos", StopReason.END),
        ("length", StopReason.MAX_TOKENS),
        ("content_filter", StopReason.CONTENT_FILTER),
        ("tool_calls", StopReason.END),  # there is none
    ],
)
def test_why_the_model_stopped(finish: str, expected: StopReason):
    assert read(chunk({"content": "x"}), chunk(finish=finish)).stop_reason is expected


def test_a_refusal_is_one_although_its_finish_reason_is_stop():
    reply = read(chunk({"refusal": "I can't "}), chunk({"refusal": "do that."}), chunk(finish="stop"))
    assert (reply.stop_reason, reply.text) == (StopReason.REFUSAL, "I can't do that.")


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}, {"type": "reasoning.encrypted"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_reasoning_under_each_of_its_names(delta: dict[str, Any]):
    reply = read(chunk(delta), chunk({"content": "16"}), chunk(finish="stop"))
    assert isinstance(reply.parts[0], ReasoningPart)
    assert reply.parts[0].text == "hm"
    assert reply.text == "16"


def test_content_as_a_list_of_parts():
    assert read(chunk({"content": [{"type": "text", "text": "1"}, {"type": "text", "text": "6"}]})).text == "16"


def test_usage_beside_choices_and_the_last_one_counts():
    first = chunk({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 1})
    last = chunk(finish="stop", usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 2})
    assert read(first, last).usage == Usage(input_tokens=9, output_tokens=4, cached_input_tokens=2)


@pytest.mark.parametrize(
    "more",
    [{"prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5}}, {"cache_creation_input_tokens": 5}],
)
def test_what_was_written_to_the_cache_is_counted(more: dict[str, Any]):
    used = read(chunk({"content": "x"}, "stop", usage={"prompt_tokens": 9, "completion_tokens": 4, **more})).usage
    assert used is not None
    assert (used.input_tokens, used.cache_write_tokens) == (9, 5)


@pytest.mark.parametrize("odd", [{}, {"prompt_tokens": None}, {"prompt_tokens": "9"}, {"prompt_tokens_details": 7}])
def test_odd_usage_is_no_usage(odd: dict[str, Any]):
    assert read(chunk({"content": "x"}, "stop", usage=odd)).usage == Usage()


def test_other_choices_and_unknown_keys_are_ignored():
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    first = chunk({"content": "yes", "obfuscation": "aqX"}, service_tier="default")
    first["choices"].append(other)
    assert (read(first).text, read(first, {"choices": None}, {"odd": 1}, chunk(None, "stop")).text) == ("yes", "yes")


def test_half_an_emoji_becomes_a_question_mark():
    assert read(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}').text == "?"


def test_bytes_that_are_no_utf8_are_replaced():
    assert read(b'{"choices":[{"delta":{"content":"\xff!"}}]}').text == "\ufffd!"


@pytest.mark.parametrize("done", [True, False])
def test_either_the_finish_reason_or_the_last_word_ends_a_reply(done: bool):
    assert read(chunk({"content": "x"}), *([] if done else [chunk(finish="stop")]), done=done).text == "x"


def test_a_stream_without_its_end_was_cut():
    with pytest.raises(ProviderError, match="cut before the reply was complete") as caught:
        read(chunk({"content": "x"}), done=False)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("frame", "retryable", "status", "words"),
    [
        (
            {"error": {"code": 502, "message": "upstream"}, "choices": [{"finish_reason": "error"}]},
            True,
            502,
            "upstream",
        ),
        ({"error": {"type": "server_error", "message": "sorry"}}, True, None, "sorry"),
        ({"error": {"type": "invalid_request_error", "message": "too long"}}, False, None, "too long"),
        ({"error": {"type": "insufficient_quota", "message": "pay"}}, False, None, "pay"),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, False, None, "pay"),
        ({"error": "out of memory"}, True, None, "out of memory"),
        ({"object": "error", "message": "bad", "code": 400}, False, 400, "bad"),
        (chunk(None, "error"), True, None, "finish_reason 'error'"),
        (chunk(None, "insufficient_system_resource"), True, None, "insufficient_system_resource"),
    ],
)
def test_an_error_in_the_stream(frame: Any, retryable: bool, status: int | None, words: str):
    with pytest.raises(ProviderError, match=words) as caught:
        read(chunk({"content": "x"}), frame)
    assert (caught.value.retryable, caught.value.status) == (retryable, status)


@pytest.mark.parametrize("frame", [b'{"choices": [', b"<html>", b"[1]", b'"text"', b"[" * 100_000])
def test_what_is_no_json_object_is_told(frame: bytes):
    with pytest.raises(ProviderError, match="no JSON object") as caught:
        read(frame)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("arguments", "error"),
    [('{"pay', CUT), ("", CUT), (" ", CUT), ('{"all": true}', None), ("{}", None)],
)
def test_a_call_that_the_token_limit_cut_is_not_made(arguments: str, error: str | None):
    """Nothing at all may be the beginning of arguments; a whole object cannot be."""
    reply = read(*call(0, "call_1", "delete", arguments), chunk(finish="length"), usage())
    assert reply.stop_reason is StopReason.MAX_TOKENS
    assert [call.arguments_error for call in reply.tool_calls] == [error]


class TestWholeReplies:
    def test_a_reply_in_one_piece(self):
        """A server that does not stream answers with a message in place of deltas."""
        message = {
            "role": "assistant",
            "content": "16",
            "tool_calls": [{"id": "a", "type": "function", "function": function("f", "{}")}],
        }
        body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        reader, builder = ChatReader("openai-chat"), ReplyBuilder()
        for piece in reader.read_whole(json.dumps(body).encode()):
            builder.add(piece)
        builder.add(reader.end())
        reply = builder.finish("RUN", 1)
        assert (reply.text, calls_of(reply)) == ("16", [("f", {}, "a")])

    @pytest.mark.parametrize("body", [{"detail": "no"}, {}, {"choices": None}])
    def test_json_that_is_no_reply_is_refused(self, body: Any):
        with pytest.raises(ProviderError, match="sent no reply") as caught:
            list(ChatReader("openai-chat").read_whole(json.dumps(body).encode()))
        assert not caught.value.retryable
