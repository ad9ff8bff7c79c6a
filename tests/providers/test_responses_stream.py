"""Events of OpenAI's Responses become a reply, and the reply becomes the same items again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from agentq.errors import ProviderError
from agentq.messages import Message, ReasoningPart, StopReason, TextPart, Usage, decode_message, encode_message
from agentq.providers._responses_items import items_of, origin_of, plain_items, without_nulls
from agentq.providers._responses_stream import ResponsesReader
from agentq.providers._sse import Frame, SseParser
from agentq.providers.base import TextChunk
from agentq.providers.reply import CUT, ReplyBuilder
from tests.providers.responses import (
    call,
    encoded,
    events,
    message,
    numbered,
    refusal,
    response,
    thought,
    told,
)
from tests.providers.strict import check

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def read_bytes(*pieces: bytes, ends: bool | None = True) -> Message:
    reader, builder, parser = ResponsesReader("openai", "gpt-x"), ReplyBuilder(), SseParser()
    frames = [frame for piece in pieces for frame in parser.feed(piece)]
    for frame in [*frames, *parser.end()]:
        for chunk in reader.read(frame):
            builder.add(chunk)
    assert ends is None or reader.has_ended is reader.is_done is ends
    builder.add(reader.end())
    return decode_message(encode_message(builder.finish("RUN", 1)))


def read(*made: dict[str, Any]) -> Message:
    return read_bytes(encoded(made))


def reply(*items: dict[str, Any], status: str = "completed", **more: Any) -> Message:
    return read(*events(*items, status=status, **more))


def again(message: Message, *, is_exact: bool = True) -> list[dict[str, Any]]:
    return items_of(message, lambda part: part.provider_call_id or part.call_id, is_exact=is_exact, is_encrypted=True)


class TestReplies:
    def test_reasoning_text_and_parallel_calls(self):
        got = reply(
            thought("Need both."),
            message("Looking up.", phase="commentary"),
            call(1, "get_weather", '{"city":"Oslo"}'),
            call(2, "get_time", "{}"),
        )
        assert [type(part).__name__ for part in got.parts] == [
            "ReasoningPart",
            "TextPart",
            "ToolCallPart",
            "ToolCallPart",
        ]
        assert got.parts[0] == ReasoningPart(text="Need both.", native={"id": "rs_1", "encrypted_content": "gAAA"})
        text = got.parts[1]
        assert isinstance(text, TextPart)
        assert text.native is not None
        assert (text.text, text.native["id"], text.native["phase"]) == ("Looking up.", "msg_1", "commentary")
        calls = [(each.name, each.arguments, each.provider_call_id, each.native) for each in got.tool_calls]
        assert calls == [
            ("get_weather", {"city": "Oslo"}, "call_1", {"id": "fc_1", "status": "completed"}),
            ("get_time", {}, "call_2", {"id": "fc_2", "status": "completed"}),
        ]
        assert (got.stop_reason, got.model, got.origin) == (
            StopReason.TOOL_CALLS,
            "gpt-x-2026-11-01",
            origin_of("gpt-x"),
        )
        assert got.usage == Usage(
            input_tokens=100, output_tokens=70, cached_input_tokens=20, cache_write_tokens=30, reasoning_tokens=40
        )

    def test_calls_that_interleave(self):
        first, second = told(0, call(1, "add", '{"a":7}')), told(1, call(2, "mul", '{"b":9}'))
        mixed = [event for pair in zip(first, second, strict=True) for event in pair]
        got = read(*numbered([*mixed, events()[-1]]))
        assert [(each.name, each.arguments) for each in got.tool_calls] == [("add", {"a": 7}), ("mul", {"b": 9})]

    @pytest.mark.parametrize(
        ("status", "more", "expected"),
        [
            ("completed", {}, StopReason.END),
            ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, StopReason.MAX_TOKENS),
            ("incomplete", {"incomplete_details": None}, StopReason.MAX_TOKENS),
            ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, StopReason.CONTENT_FILTER),
        ],
    )
    def test_why_the_model_stopped(self, status: str, more: Any, expected: StopReason):
        assert reply(message("x"), status=status, **more).stop_reason is expected

    def test_a_response_that_is_incomplete_may_end_with_the_wrong_event(self):
        end = {"type": "response.completed", "response": response(message("x"), status="incomplete")}
        assert read(*told(0, message("x")), end).stop_reason is StopReason.MAX_TOKENS

    def test_a_refusal_is_one_although_the_response_is_completed(self):
        got = reply(refusal("I can't ", "do that."))
        assert (got.text, got.stop_reason) == ("I can't do that.", StopReason.REFUSAL)
        assert again(got) == [refusal("I can't ", "do that.")]

    @pytest.mark.parametrize(
        ("arguments", "parsed", "error"),
        [
            ("", {}, None),
            ("{}", {}, None),
            ('{"a": 1}', {"a": 1}, None),
            ('{"a":', {}, "not valid JSON"),
            ("[1]", {}, "must be a JSON object"),
        ],
    )
    def test_arguments_as_models_write_them(self, arguments: str, parsed: Any, error: str | None):
        (made,) = reply(call(1, "f", arguments)).tool_calls
        assert made.arguments == parsed
        assert (error or "") in (made.arguments_error or "")
        assert (made.arguments_error is None) is (error is None)

    @pytest.mark.parametrize(("arguments", "error"), [('{"pay', CUT), ("", CUT), ('{"all":true}', None)])
    @pytest.mark.parametrize("is_ended", [True, False])
    def test_a_call_that_the_token_limit_cut_is_not_made(self, arguments: str, error: str | None, is_ended: bool):
        """Whether or not an event ends the item of the call."""
        item = call(1, "delete", arguments, status="incomplete")
        made = told(0, item) if is_ended else told(0, item)[:-1]
        end = response(item, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
        for output in ([item], [item] if is_ended else []):
            got = read(*made, {"type": "response.incomplete", "response": end | {"output": output}})
            assert [each.arguments_error for each in got.tool_calls] == [error]
            assert got.tool_calls[0].provider_call_id == "call_1"

    def test_an_item_that_only_the_end_tells_of_is_added(self):
        listed: dict[str, Any] = {
            "id": "mcpl_1",
            "type": "mcp_list_tools",
            "server_label": "s",
            "tools": [],
            "error": None,
        }
        made: list[Any] = [
            *told(1, message("Hi")),
            {"type": "response.completed", "response": response(listed, message("Hi"))},
        ]
        got = read(*made)
        assert got.text == "Hi"
        assert again(got) == [message("Hi"), without_nulls(listed)]

    def test_items_that_have_other_ids_every_time_are_not_doubled(self):
        def named(event: dict[str, Any], number: int) -> dict[str, Any]:
            renamed: dict[str, Any] = json.loads(json.dumps(event))
            if "item_id" in renamed:
                renamed["item_id"] += f"-{number}"
            if "item" in renamed:
                renamed["item"]["id"] += f"-{number}"
            for item in renamed.get("response", {}).get("output", ()):
                item["id"] += f"-{number}"
            return renamed

        made = events(thought("Hm."), message("Hi ", "there"), call(1, "f", "{}"), call(2, "g", "{}"))
        got = read(*(named(event, number) for number, event in enumerate(made)))
        assert (got.text, len(got.parts)) == ("Hi there", 5)
        assert [each.name for each in got.tool_calls] == ["f", "g"]

    def test_servers_that_leave_out_most(self):
        """No ids, no places, nothing added, nothing done: what is said counts all the same."""
        made: list[Any] = [
            {"type": "response.output_text.delta", "delta": "Hi "},
            {"type": "response.output_text.delta", "delta": "there"},
            {"type": "response.completed", "response": {"status": "completed"}},
        ]
        got = read(*made)
        assert (got.text, got.usage) == ("Hi there", Usage())
        assert plain_items(got, lambda part: part.call_id) == [
            {"type": "message", "role": "assistant", "content": "Hi there"}
        ]

    def test_a_server_that_sends_items_without_deltas(self):
        items = (thought("A", "B"), message("x", "y"), call(1, "f", '{"a":1}'))
        made = [event for event in events(*items) if ".delta" not in event["type"] and "added" not in event["type"]]
        assert read(*made) == reply(*items)
        assert read(made[-1]) == reply(*items)

    def test_the_frame_names_the_event_where_the_data_do_not(self):
        bare = [{name: value for name, value in each.items() if name != "type"} for each in events(message("Hi"))]
        data = b"".join(
            f"event: {named['type']}\ndata: {json.dumps(each)}\n\n".encode()
            for named, each in zip(events(message("Hi")), bare, strict=True)
        )
        assert read_bytes(data) == reply(message("Hi"))

    def test_words_after_the_end_and_unknown_events_are_ignored(self):
        odd: list[Any] = [
            {"type": "keepalive", "sequence_number": 1},
            {"type": "response.web_search_call.searching"},
            {"x": 1},
        ]
        assert read(*odd, *events(message("Hi")), *told(1, message("more"))).text == "Hi"
        assert read_bytes(encoded(events(message("Hi"))) + b"data: [DONE]\n\n").text == "Hi"

    def test_half_an_emoji_becomes_a_question_mark_everywhere(self):
        data = encoded(events(message("a😀b"), call(1, "f", '{"a": "😀"}'))).replace("😀".encode(), b"\\ud83d")
        got = read_bytes(data)
        assert got.text == "a?b"
        assert again(got) == [message("a?b"), call(1, "f", '{"a": "?"}')]

    def test_odd_usage_is_no_usage(self):
        for odd in ({}, None, 7, {"input_tokens": "9", "input_tokens_details": 3}):
            assert reply(message("x"), usage=odd).usage == Usage()


SAID = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ITEMS = st.lists(
    st.one_of(
        st.builds(
            lambda texts, number, phase: message(*texts, item_id=f"msg_{number}", **phase),
            st.lists(SAID, max_size=3),
            st.uuids(),
            st.sampled_from([{}, {"phase": "commentary"}, {"status": "incomplete"}]),
        ),
        st.builds(
            lambda texts, number, more: thought(*texts, item_id=f"rs_{number}", **more),
            st.lists(SAID, max_size=3),
            st.uuids(),
            st.sampled_from([{}, {"content": [{"type": "reasoning_text", "text": "hm"}]}, {"status": None}]),
        ),
        st.builds(
            lambda arguments, number: call(0, "f", arguments, id=f"fc_{number}", call_id=f"call_{number}"),
            st.one_of(
                SAID.filter(str.strip), st.dictionaries(SAID, st.integers()).map(json.dumps), st.just('{"a":1.0}')
            ),
            st.uuids(),
        ),
    ),
    max_size=4,
).map(lambda items: [*items, message("The end.", item_id="msg_end")])


class TestReplay:
    """What the server sent comes back to it as it was, without the keys that were null."""

    @given(ITEMS)
    def test_any_reply_comes_back_as_it_was_sent(self, items: list[dict[str, Any]]):
        sent = again(reply(*items))
        assert sent == without_nulls(items)
        check(ResponseCreateParamsStreaming, {"model": "gpt-x", "stream": True, "input": sent})

    @given(ITEMS, st.lists(st.integers(1, 40), min_size=1, max_size=30))
    def test_any_split_of_the_bytes_gives_the_same_reply(self, items: list[dict[str, Any]], sizes: list[int]):
        data = encoded(events(*items))
        pieces, begin = [], 0
        for size in sizes:
            pieces.append(data[begin : begin + size])
            begin += size
        assert read_bytes(*pieces, data[begin:]) == read_bytes(data)

    @given(ITEMS)
    def test_openais_own_sdk_reads_the_same(self, items: list[dict[str, Any]]):
        state: Any = ResponseStreamState(input_tools=[], text_format=omit)
        for event in events(*items):
            state.handle_event(EVENT.validate_python(event))
        final = state._completed_response  # noqa: SLF001
        got = reply(*items)
        assert got.text == final.output_text
        calls = [item for item in final.output if item.type == "function_call"]
        assert [(each.name, each.provider_call_id) for each in got.tool_calls] == [(c.name, c.call_id) for c in calls]

    @pytest.mark.parametrize(
        "item",
        [
            thought(),
            thought("One."),
            thought(""),
            thought("One.", "Two.\n\nThree."),
            thought("", "Two."),
            thought(content=[{"type": "reasoning_text", "text": "Hm."}], encrypted=None),
            thought("S", content=[{"type": "reasoning_text", "text": "Hm."}]),
            thought(content=[]),
            thought(content=[{"type": "reasoning_text", "text": "A"}, {"type": "reasoning_text", "text": "B"}]),
            thought("One.", status="completed"),
            message(),
            message(""),
            message("a", "", "b"),
            message("", "0", "0"),
            message("", "", "0", "", "0"),
            message("\u2028 e\u0301 \U0001f600\u0085", phase="final_answer"),
            message("a", new_key={"of": "tomorrow", "not": None}),
            {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            call(1, "f", '{ "a" : 1.50 }'),
            call(1, "f", '{"a":1,"a":2}'),
            call(1, "f", '{"a":"\\u00fc"}'),
            call(1, "f", '{"a":1e999}'),
            call(1, "f", '{"a":' * 120 + "1" + "}" * 120),
            call(1, "f", "{oops"),
            call(1, "f", "{}", namespace="n", caller={"type": "direct"}),
            {"id": "cmp_1", "type": "compaction", "encrypted_content": "gBBB", "created_by": None},
        ],
    )
    def test_an_item_comes_back_to_the_key(self, item: dict[str, Any]):
        end = message("The end.", item_id="msg_2")
        got = reply(item, end)
        assert again(got) == [without_nulls(item), end]

    def test_native_holds_only_what_the_parts_cannot_give_back(self):
        got = reply(thought("One.", "Two."), message("Hi"), call(1, "f", '{"a":1}'), call(2, "f", '{"a": 1}'))
        assert [getattr(part, "native", None) for part in got.parts] == [
            {"id": "rs_1", "encrypted_content": "gAAA", "lengths": [4, 4]},
            {"id": "msg_1", "status": "completed", "part": {"annotations": [], "logprobs": []}},
            {"id": "fc_1", "status": "completed"},
            {"id": "fc_2", "status": "completed", "arguments": '{"a": 1}'},
        ]

    def test_empty_arguments_go_back_as_an_object(self):
        """An empty text is no JSON, and some servers read it."""
        assert again(reply(call(1, "f", ""))) == [call(1, "f", "{}")]

    def test_arguments_that_are_no_json_go_back_to_servers_that_bear_it(self):
        got = reply(call(1, "f", "{oops"), call(2, "f", '{"a": 1}'))
        sent = [item["arguments"] for item in again(got, is_exact=False)]
        assert sent == ["{}", '{"a": 1}']

    def test_text_that_differs_at_its_end_goes_back_as_it_ended(self):
        made = events(message("Hello"))
        made[-2]["item"] = message("Goodbye")
        got = read(*made)
        assert got.text == "Hello"
        assert again(got) == [message("Goodbye")]

    def test_items_that_interrupt_each_other_come_back_whole(self):
        first, second = told(0, message("Hello")), told(1, thought("Hm.", "So."))
        mixed = [*first[:3], *second[:4], *first[3:], *second[4:], *told(2, message("End", item_id="msg_2"))]
        got = read(*mixed, events()[-1])
        assert got.text == "HelloEnd"
        assert again(got) == [message("Hello"), thought("Hm.", "So."), message("End", item_id="msg_2")]

    def test_the_encrypted_reasoning_of_the_items_own_end_counts(self):
        """The one in its beginning may be incomplete, the one in the end of the reply is another of the same worth."""
        made = events(thought("Hm."), message("Hi"))
        made[-1]["response"]["output"][0] = thought("Hm.", encrypted="gOther")
        assert again(read(*made)) == [thought("Hm."), message("Hi")]

    def test_reasoning_that_the_token_limit_cut_is_not_sent_back(self):
        """It is only taken together with the item that followed it."""
        assert again(reply(message("Hi"), thought("Hm."), status="incomplete")) == [message("Hi")]
        assert again(reply(thought("Hm."), status="incomplete")) == []

    def test_a_reply_whose_reasoning_was_not_encrypted_goes_back_as_what_it_says(self):
        got = reply(thought("Hm.", encrypted=None), message("Hi", phase="commentary"), call(1, "f", '{"a":1}'))
        assert again(got) == [
            {"type": "message", "role": "assistant", "content": "Hi", "phase": "commentary"},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        ]


class TestTrouble:
    @pytest.mark.parametrize(
        ("event", "retryable", "words"),
        [
            ({"type": "error", "code": "server_error", "message": "sorry", "param": None}, True, "sorry"),
            ({"type": "error", "code": None, "message": "sorry"}, True, "broke the reply off: sorry"),
            ({"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}}, False, "bad"),
            ({"type": "error", "code": "context_length_exceeded", "message": "long"}, False, "long"),
            ({"type": "error", "code": "insufficient_quota", "message": "pay"}, False, "pay"),
            ({"error": {"code": 502, "message": "upstream"}}, True, "upstream"),
            ({"code": "rate_limit_exceeded", "message": "slow"}, True, "slow"),
            ({"code": "invalid_prompt", "message": "no"}, False, "no"),
            ({"code": "invalid_image_url", "message": "no"}, False, "no"),
            (None, True, "the response has failed"),
        ],
    )
    def test_an_error_in_the_stream(self, event: Any, retryable: bool, words: str):
        if event is None or not event.keys() & {"type", "error"}:
            event = {"type": "response.failed", "response": response(status="failed", error=event)}
        with pytest.raises(ProviderError, match=words) as caught:
            read(*told(0, message("x")), event)
        assert caught.value.retryable is retryable

    def test_a_stream_without_its_end_was_cut(self):
        for made in ([], events(message("x"))[:-1]):
            with pytest.raises(ProviderError, match="cut before the reply was complete") as caught:
                read_bytes(encoded(made), ends=False)
            assert caught.value.retryable

    def test_a_last_word_alone_is_no_end(self):
        reader = ResponsesReader("openai", "gpt-x")
        assert not list(reader.read(Frame(b"[DONE]")))
        assert (reader.is_done, reader.has_ended) == (True, False)

    @pytest.mark.parametrize("frame", [b'{"type": ', b"<html>", b"[1]", b'"text"', b"[" * 100_000])
    def test_what_is_no_json_object_is_told(self, frame: bytes):
        with pytest.raises(ProviderError, match="no JSON object") as caught:
            ResponsesReader("openai", "gpt-x").read(Frame(frame))
        assert caught.value.retryable

    def test_a_last_frame_without_its_blank_line_counts(self):
        assert read_bytes(encoded(events(message("Hi"))).rstrip(b"\n")).text == "Hi"

    @given(st.data())
    def test_odd_values_anywhere_are_a_reply_or_an_error(self, data: st.DataObject):
        """No other exception comes out, and what comes out can be sent back."""
        made = events(thought("A", "B"), message("x", "y"), call(1, "f", '{"a": 1}'), refusal("no"))
        for _ in range(data.draw(st.integers(1, 3))):
            place: Any = data.draw(st.sampled_from(made))
            while True:
                key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
                if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                    break
                place = place[key]
            place[key] = data.draw(st.sampled_from([None, 0, 7, "", "odd", [], {}, [1], {"type": []}, True]))
        try:
            got = read_bytes(encoded(made), ends=None)
        except ProviderError:
            return
        json.dumps(again(got))


class TestWholeReplies:
    """A server that does not stream answers with the response itself."""

    def read_whole(self, body: Any) -> Message:
        reader, builder = ResponsesReader("openai", "gpt-x"), ReplyBuilder()
        for chunk in reader.read_whole(json.dumps(body).encode()):
            builder.add(chunk)
        builder.add(reader.end())
        return decode_message(encode_message(builder.finish("RUN", 1)))

    def test_a_reply_in_one_piece_is_the_same_reply(self):
        items = (thought("A", "B"), message("x", "y"), call(1, "f", '{"a": 1}'))
        assert self.read_whole(response(*items)) == reply(*items)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"detail": "no"}, "sent no reply"),
            ({"output": None}, "sent no reply"),
            (response(status="in_progress"), "sent no reply"),
            ({"error": {"type": "invalid_request_error", "message": "no"}}, "broke the reply off"),
        ],
    )
    def test_json_that_is_no_reply_is_refused(self, body: Any, words: str):
        with pytest.raises(ProviderError, match=words) as caught:
            self.read_whole(body)
        assert not caught.value.retryable


def test_a_delta_of_text_is_one_chunk_at_once():
    reader = ResponsesReader("openai", "gpt-x")
    made = [each for each in events(message("Hello")) if each["type"].endswith("text.delta")]
    got = [chunk for each in made for chunk in reader.read(Frame(json.dumps(each).encode()))]
    assert got == [TextChunk("He"), TextChunk("ll"), TextChunk("o")]
