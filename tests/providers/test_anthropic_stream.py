"""Streams of Claude become the same reply wherever they are cut, and go back as they came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from hypothesis import given
from hypothesis import strategies as st

from agentq.errors import ProviderError
from agentq.messages import Message, StopReason, ToolResultPart, Usage, results_message, user_message
from agentq.providers._anthropic_stream import AnthropicReader
from agentq.providers._sse import Frame
from agentq.providers.reply import CUT, ReplyBuilder
from tests.providers.anthropic_parts import (
    ORIGIN,
    block,
    body_of,
    decoded,
    encoded,
    end,
    event,
    says,
    start,
    streams,
    text,
    thinking,
    tool_use,
)
from tests.providers.faults import serving

RICH = [
    start(cache_creation_input_tokens=30, cache_read_input_tokens=20),
    event("ping"),
    *thinking(0, "CAQS+/=", "I need ", "weather\u2028."),
    *block(1, {"type": "redacted_thinking", "data": "EqkE..."}),
    *thinking(2, "EMPTY=="),
    *text(3, "Looking ", "up 🙂."),
    *text(4, "Two cities."),
    *tool_use(5, "toolu_1", "get_weather", "", '{"city":', ' "Oslo"}'),
    *tool_use(6, "toolu_2", "get_time"),
    *end("tool_use", output_tokens_details={"thinking_tokens": 40}),
]
TURN = [
    {"type": "thinking", "thinking": "I need weather\u2028.", "signature": "CAQS+/="},
    {"type": "redacted_thinking", "data": "EqkE..."},
    {"type": "thinking", "thinking": "", "signature": "EMPTY=="},
    {"type": "text", "text": "Looking up 🙂."},
    {"type": "text", "text": "Two cities."},
    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
    {"type": "tool_use", "id": "toolu_2", "name": "get_time", "input": {}},
]


def replayed(message: Message) -> list[dict[str, Any]]:
    """The assistant's turn of the next request."""
    results = results_message(
        ToolResultPart(call_id=call.call_id, name=call.name, content="x", provider_call_id=call.provider_call_id)
        for call in message.tool_calls
    )
    turn: list[dict[str, Any]] = body_of(user_message("Hi"), message, results)["messages"][1]["content"]
    return turn


def failure(events: list[dict[str, Any]]) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        decoded(encoded(events))
    return raised.value


class TestReplies:
    def test_every_kind_of_block_goes_back_as_it_came(self):
        message = decoded(encoded(RICH))
        assert message.origin == ORIGIN
        assert message.stop_reason is StopReason.TOOL_CALLS
        assert message.model == "claude-opus-5-5-20260901"
        assert replayed(message) == TURN

    @given(st.lists(st.integers(0, len(encoded(RICH))), max_size=12))
    def test_wherever_the_network_cuts(self, cuts: list[int]):
        data, places = encoded(RICH), [0, *sorted(cuts), len(encoded(RICH))]
        pieces = [data[begin:stop] for begin, stop in pairwise(places)]
        assert decoded(*pieces) == decoded(data)

    async def test_the_vendors_own_sdk_reads_the_same(self):
        async with serving() as server:
            server.answers(streams(RICH))
            client = AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)
            asked: Any = [{"role": "user", "content": "Hi"}]
            async with client.messages.stream(model="m", max_tokens=9, messages=asked) as stream:
                theirs = await stream.get_final_message()
            await client.close()
        given = [block.model_dump(exclude_none=True, exclude={"citations", "caller"}) for block in theirs.content]
        assert [{k: v for k, v in each.items() if k != "parsed_output"} for each in given] == TURN
        assert (theirs.usage.output_tokens, theirs.stop_reason) == (77, "tool_use")

    def test_usage_has_all_input(self):
        assert decoded(encoded(RICH)).usage == Usage(
            input_tokens=150, output_tokens=77, cached_input_tokens=20, cache_write_tokens=30, reasoning_tokens=40
        )

    def test_the_tokens_of_the_end_replace_those_of_the_start(self):
        usage = decoded(encoded([start(), *text(0, "Hi"), *end(input_tokens=500, cache_read_input_tokens=None)])).usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (500, 77)

    def test_plain_words_need_no_origin(self):
        message = decoded(encoded(says("Hi")))
        assert (message.text, message.origin, message.stop_reason) == ("Hi", None, StopReason.END)

    def test_a_last_event_without_its_blank_line(self):
        assert decoded(encoded(says("Hi")).rstrip()).text == "Hi"

    @pytest.mark.parametrize(
        ("stop", "reason"),
        [
            ("end_turn", StopReason.END),
            ("stop_sequence", StopReason.END),
            ("something_new", StopReason.END),
            ("tool_use", StopReason.END),
            ("max_tokens", StopReason.MAX_TOKENS),
            ("model_context_window_exceeded", StopReason.MAX_TOKENS),
            ("refusal", StopReason.REFUSAL),
        ],
    )
    def test_why_the_model_stopped(self, stop: str, reason: StopReason):
        assert decoded(encoded([start(), *text(0, "Hi"), *end(stop)])).stop_reason is reason

    def test_calls_count_more_than_the_reason(self):
        message = decoded(encoded([start(), *tool_use(0, "t", "f", "{}"), *end("end_turn")]))
        assert message.stop_reason is StopReason.TOOL_CALLS

    def test_a_refusal_without_words_says_why(self):
        details = {"type": "refusal", "category": "cyber", "explanation": "I cannot help with that."}
        message = decoded(encoded([start(), *end("refusal", details)]))
        assert (message.stop_reason, message.text) == (StopReason.REFUSAL, "I cannot help with that.")

    def test_a_call_that_the_limit_cut(self):
        message = decoded(encoded([start(), *tool_use(0, "t", "f", '{"city": "Os'), *end("max_tokens")]))
        (call,) = message.tool_calls
        assert call.arguments_error == CUT

    def test_arguments_that_are_no_json(self):
        (call,) = decoded(encoded([start(), *tool_use(0, "t", "f", "{city: Oslo}"), *end("tool_use")])).tool_calls
        assert "not valid JSON" in (call.arguments_error or "")

    def test_events_and_blocks_of_tomorrow_are_passed_over(self):
        events = [
            start(),
            event("message_hint", hint=1),
            *block(0, {"type": "server_tool_use", "id": "s", "name": "web", "input": {}}),
            *text(1, "Hi"),
            *end(),
        ]
        assert decoded(encoded(events)).text == "Hi"

    def test_a_reply_in_one_piece(self):
        body = {
            "type": "message", "role": "assistant", "model": "claude", "content": TURN,
            "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 6},
        }  # fmt: skip
        reader, builder = AnthropicReader("anthropic", ORIGIN), ReplyBuilder()
        for chunk in reader.read_whole(json.dumps(body).encode()):
            builder.add(chunk)
        builder.add(reader.end())
        message = builder.finish("RUN", 1)
        assert replayed(message) == TURN
        assert message.usage == Usage(input_tokens=5, output_tokens=6)


class TestFaults:
    @pytest.mark.parametrize(
        ("kind", "retryable"),
        [
            ("overloaded_error", True),
            ("api_error", True),
            ("rate_limit_error", True),
            ("invalid_request_error", False),
            ("billing_error", False),
        ],
    )
    def test_an_error_inside_the_stream(self, kind: str, retryable: bool):
        error = failure([start(), *text(0, "Hi"), event("error", error={"type": kind, "message": "Oh."})])
        assert error.retryable is retryable
        assert kind in str(error)

    def test_a_stream_that_ends_before_the_reply(self):
        error = failure([start(), *text(0, "Hi")])
        assert error.retryable
        assert "cut" in str(error)

    def test_a_turn_that_is_paused_cannot_be_gone_on_with(self):
        assert not failure([start(), *text(0, "Hi"), *end("pause_turn")]).retryable

    @pytest.mark.parametrize("data", [b"hello", b"[1]", b'{"a":'])
    def test_what_is_no_event(self, data: bytes):
        with pytest.raises(ProviderError, match="no JSON object"):
            list(AnthropicReader("anthropic", ORIGIN).read(Frame(data)))

    @pytest.mark.parametrize("body", [{"type": "error", "error": {"type": "api_error", "message": "x"}}, {"a": 1}])
    def test_a_document_that_is_no_reply(self, body: Any):
        with pytest.raises(ProviderError):
            list(AnthropicReader("anthropic", ORIGIN).read_whole(json.dumps(body).encode()))


class TestServersThatOnlySpeakTheSameWire:
    def test_thinking_that_nobody_signed_goes_back(self):
        deltas = [{"type": "thinking_delta", "thinking": "hm"}]
        unsigned = block(0, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)
        turn = replayed(decoded(encoded([start(), *unsigned, *text(1, "x"), *end()])))
        assert turn == [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "x"}]

    def test_arguments_that_come_both_at_once_and_in_pieces_count_once(self):
        begin = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
        piece = {"type": "input_json_delta", "partial_json": '{"a": 1}'}
        for deltas in ((), (piece,)):
            reply = decoded(encoded([start(), *block(0, begin, *deltas), *end("tool_use")]))
            assert [call.arguments for call in reply.tool_calls] == [{"a": 1}]

    def test_blocks_that_are_not_ended(self):
        assert decoded(encoded([each for each in RICH if each["type"] != "content_block_stop"])) == decoded(
            encoded(RICH)
        )

    def test_the_word_at_the_end_of_other_wires(self):
        assert decoded(encoded(RICH), b"data: [DONE]\n\n") == decoded(encoded(RICH))
