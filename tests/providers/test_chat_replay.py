"""What a server has streamed goes back to it as it came, through the store and all; to others as they understand it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from agentq.messages import Message, Origin, ReasoningPart, decode_message, encode_message, user_message
from agentq.providers._chat_stream import ChatReader
from agentq.providers._sse import SseParser
from agentq.providers.reply import ReplyBuilder
from agentq.settings import OpenAIEnvironment
from tests.providers.faults import call, chunk, encoded, usage
from tests.providers.test_chat_request import OPENAI, body_of, results

OPENROUTER = OpenAIEnvironment(base_url="https://openrouter.ai/api/v1")
VLLM = OpenAIEnvironment(base_url="http://127.0.0.1:8000/v1")
ORIGIN = Origin(api="openai-chat/openrouter.ai", model="gpt-x")


def decoded(*pieces: bytes, origin: Origin = ORIGIN) -> Message:
    """The message that a stream becomes, as it comes out of the store."""
    parser, reader, builder = SseParser(), ChatReader("openrouter", origin), ReplyBuilder()
    for frames in (*map(parser.feed, pieces), parser.end()):
        for frame in frames:
            for each in reader.read(frame):
                builder.add(each)
    builder.add(reader.end())
    return decode_message(encode_message(builder.finish("RUN", 1)))


def replayed(*chunks: Any, environment: OpenAIEnvironment = OPENROUTER, **settings: Any) -> dict[str, Any]:
    """The assistant's turn of the next request."""
    message = decoded(encoded(chunks))
    answers = [results((each.call_id, each.provider_call_id)) for each in message.tool_calls]
    body = body_of(user_message("Hi"), message, *answers, environment=environment, **settings)
    turn: dict[str, Any] = body["messages"][1]
    return turn


def arguments_of(turn: dict[str, Any]) -> list[str]:
    return [call["function"]["arguments"] for call in turn["tool_calls"]]


class TestArguments:
    @pytest.mark.parametrize(
        "text",
        [
            '{"city":"Oslo"}',
            '{"city": "Oslo"}',
            '{ "city" : "Troms\\u00f8",\n "n": 1e3 }',
            '{"n": 1.10}',
            '{"a": 1, "a": 2}',
            '{"deep": {"list": [1, 2, {"x": null}]}}',
            "{ }",
        ],
    )
    def test_they_go_back_to_the_letter(self, text: str):
        turn = replayed(*call(0, "call_1", "f", text), chunk(finish="tool_calls"))
        assert arguments_of(turn) == [text]

    @pytest.mark.parametrize("text", ["", " ", "[1]", '{"a": ', "null", '{"a": NaN}', '{"a": 1e999}'])
    def test_what_was_no_json_object_goes_back_as_an_empty_one(self, text: str):
        assert arguments_of(replayed(*call(0, "call_1", "f", text), chunk(finish="tool_calls"))) == ["{}"]

    def test_what_can_be_made_again_is_not_kept(self):
        message = decoded(encoded([*call(0, "call_1", "f", '{"city":"Oslo"}'), chunk(finish="tool_calls")]))
        assert (message.tool_calls[0].native, message.origin) == (None, None)

    def test_parallel_calls_each_keep_their_own(self):
        first, second = call(0, "call_1", "f", '{"a": 1}'), call(1, "call_2", "g", '{"b":2}')
        mixed = [each for pair in zip(first, second, strict=True) for each in pair]
        turn = replayed(*mixed, *call(2, "call_3", "h", '{"c":  3}'), chunk(finish="tool_calls"))
        assert arguments_of(turn) == ['{"a": 1}', '{"b":2}', '{"c":  3}']

    @pytest.mark.parametrize("end", [[], [chunk(finish="stop")]])
    def test_they_are_kept_however_the_stream_ends(self, end: list[Any]):
        assert arguments_of(replayed(*call(0, "call_1", "f", '{"a": 1}'), *end)) == ['{"a": 1}']

    def test_they_are_whole_where_pieces_come_after_the_finish_reason(self):
        first, half, rest = call(0, "call_1", "f", '{"a": 1, "b": 2}')
        assert arguments_of(replayed(first, half, chunk(finish="tool_calls"), rest)) == ['{"a": 1, "b": 2}']

    @pytest.mark.parametrize("environment", [OPENAI, VLLM])
    def test_other_servers_get_them_compact(self, environment: OpenAIEnvironment):
        chunks = [*call(0, "call_1", "f", '{"city":  "Oslo"}'), chunk(finish="tool_calls")]
        assert arguments_of(replayed(*chunks, environment=environment)) == ['{"city":"Oslo"}']

    def test_another_model_of_the_same_server_gets_them_compact(self):
        message = decoded(
            encoded([*call(0, "call_1", "f", '{"a": 1}'), chunk(finish="tool_calls")]),
            origin=ORIGIN.model_copy(update={"model": "other"}),
        )
        turn = body_of(user_message("Hi"), message, environment=OPENROUTER)["messages"][1]
        assert arguments_of(turn) == ['{"a":1}']

    def test_a_signature_beside_a_call_goes_back_with_it(self):
        """As Gemini's compatible server has it: the first call of a step only."""
        signed: Any = {"google": {"thought_signature": "c2ln"}}
        first = call(0, "call_1", "f", "{}")
        first[0]["choices"][0]["delta"]["tool_calls"][0]["extra_content"] = signed
        turn = replayed(*first, *call(1, "call_2", "g", "{}"), chunk(finish="stop"))
        assert [each.get("extra_content") for each in turn["tool_calls"]] == [signed, None]
        assert "extra_content" not in json.dumps(replayed(*first, chunk(finish="stop"), environment=VLLM))


def details(*pieces: dict[str, Any], **delta: Any) -> dict[str, Any]:
    return chunk({"role": "assistant", "content": "", "reasoning_details": list(pieces), **delta})


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0, **more}


SIGNED = [
    details(text("I need "), reasoning="I need "),
    details(text("the weather."), reasoning="the weather."),
    details({"type": "reasoning.text", "signature": "Et8BCm", "format": "anthropic-claude-v1", "index": 0}),
    details({"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "x", "index": 1}),
    chunk({"content": "Looking up."}),
    *call(0, "call_1", "get_weather", '{"city": "Oslo"}'),
    chunk(finish="tool_calls"),
    usage(),
]
SIGNED_TURN = {
    "role": "assistant",
    "content": "Looking up.",
    "reasoning_details": [
        text("I need the weather.", signature="Et8BCm"),
        {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "x", "index": 1},
    ],
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        }
    ],
}


def test_the_turn_is_what_openais_own_sdk_makes_of_the_stream():
    chunks = [
        chunk({"role": "assistant", "content": "Look"}),
        chunk({"content": "ing."}),
        *call(0, "call_1", "f", '{"city": "Oslo"}'),
        *call(1, "call_2", "g", '{"n":1}'),
        chunk(finish="tool_calls"),
        usage(),
    ]
    state: Any = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate({"created": 1, **each}))
    theirs = state.get_final_completion().choices[0].message
    message = decoded(encoded(chunks), origin=Origin(api="openai-chat/api.openai.com", model="gpt-x"))
    turn = body_of(user_message("Hi"), message, environment=OPENAI)["messages"][1]
    assert (turn["role"], turn["content"]) == (theirs.role, theirs.content)
    assert [(each["id"], each["type"], each["function"]["name"]) for each in turn["tool_calls"]] == [
        (each.id, each.type, each.function.name) for each in theirs.tool_calls
    ]
    assert arguments_of(turn) == [each.function.arguments for each in theirs.tool_calls]


class TestReasoningDetails:
    def test_pieces_of_one_detail_go_back_as_one_with_its_signature(self):
        assert replayed(*SIGNED) == SIGNED_TURN

    def test_its_text_is_kept_once(self):
        message = decoded(encoded(SIGNED))
        assert [part.text for part in message.parts if isinstance(part, ReasoningPart)] == ["I need the weather.", ""]
        assert encode_message(message).count(b"the weather") == 1

    @pytest.mark.parametrize(
        "given",
        [
            [text("a", index=0), text("b", index=1)],
            [text("a", id="x"), text("b", id="y")],
            [text("a", signature="s"), text("b")],
            [{"type": "reasoning.summary", "summary": "a", "index": 0}, text("b")],
            [{"type": "reasoning.encrypted", "data": "a", "index": 0}, {"type": "reasoning.encrypted", "data": "a"}],
            [text("", signature="s"), {"type": "reasoning.encrypted", "data": "a", "id": None}],
            [{"type": "reasoning.new", "odd": [1]}, {"odd": True}],
            [text("a", signature=None, id=None)],
        ],
    )
    def test_whole_details_go_back_unchanged_and_in_order(self, given: list[dict[str, Any]]):
        assert replayed(details(*given), chunk({"content": "16"}, "stop"))["reasoning_details"] == given
        apart = [details(each) for each in given]
        assert replayed(*apart, chunk({"content": "16"}, "stop"))["reasoning_details"] == given

    def test_details_between_calls_keep_their_order(self):
        chunks = [
            details(text("one", signature="s1")),
            *call(0, "call_1", "f", "{}"),
            details({"type": "reasoning.encrypted", "data": "d", "id": "call_1", "index": 0}),
            details({"type": "reasoning.encrypted", "data": "e", "id": "call_2", "index": 0}),
            chunk(finish="tool_calls"),
        ]
        sent = replayed(*chunks)["reasoning_details"]
        assert [each.get("signature", each.get("data")) for each in sent] == ["s1", "d", "e"]

    def test_reasoning_beside_an_encrypted_detail_is_shown(self):
        message = decoded(
            encoded(
                [
                    details({"type": "reasoning.encrypted", "data": "d"}, reasoning="hm"),
                    chunk({"content": "16"}, "stop"),
                ]
            )
        )
        assert [part.text for part in message.parts if isinstance(part, ReasoningPart)] == ["hm"]
        assert body_of(user_message("Hi"), message, environment=OPENROUTER)["messages"][1]["reasoning_details"] == [
            {"type": "reasoning.encrypted", "data": "d"}
        ]

    @pytest.mark.parametrize("environment", [OPENAI, VLLM])
    def test_other_servers_do_not_see_them(self, environment: OpenAIEnvironment):
        turn = replayed(*SIGNED, environment=environment)
        assert turn.keys() == {"role", "content", "tool_calls"}

    def test_reasoning_of_others_does_not_go_back_under_another_name(self):
        turn = replayed(*SIGNED, environment=VLLM, send_reasoning="reasoning_content")
        assert "weather." not in json.dumps(turn)

    def test_half_an_emoji_in_a_detail_can_be_stored(self):
        data = (
            b'data: {"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.encrypted","data":"\\ud83d"}]}}]}\n\n'
        )
        message = decoded(data, encoded([chunk({"content": "16"}, "stop")]))
        assert message.parts[0].native == {"detail": {"type": "reasoning.encrypted", "data": "?"}}  # type: ignore[union-attr]

    @pytest.mark.parametrize("odd", [7, "text", [None, 7], [[]], {"type": "reasoning.text"}])
    def test_odd_details_are_none(self, odd: Any):
        assert "reasoning_details" not in replayed(
            chunk({"reasoning_details": odd, "content": "16"}, "stop"),
        )


ODD = encoded(
    [
        *SIGNED[:4],
        chunk({"content": "one\u2028two\u2029three\x85 é 😀"}),
        *call(0, "call_1", "f", '{"a":  "Tromsø"}'),
        *call(1, "call_2", "g", ""),
        chunk(finish="tool_calls"),
        usage(),
    ]
)
WHOLE = decoded(ODD)


@given(st.sets(st.integers(0, len(ODD))))
def test_any_split_of_the_bytes_gives_the_same_message(places: set[int]):
    edges = [0, *sorted(places), len(ODD)]
    assert decoded(*(ODD[begin:end] for begin, end in pairwise(edges))) == WHOLE
