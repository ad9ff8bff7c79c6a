"""What Gemini streams becomes a reply, and goes back to it as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.errors import ProviderError
from agentq.messages import Message, ReasoningPart, StopReason, TextPart, Usage, decode_message, encode_message
from agentq.providers._google_request import request_body
from agentq.providers._google_settings import read_settings
from agentq.providers._google_stream import GoogleReader
from agentq.providers._sse import Frame, SseParser
from agentq.providers.base import ModelRequest
from agentq.providers.reply import CUT, ReplyBuilder
from tests.providers.faults import encoded
from tests.providers.gemini import FIRST, SECOND, USAGE, call, end, quota, response, says, text, thought
from tests.providers.strict_google import check_google, decoded, sdk_parts


def read(*responses: Any) -> Message:
    reader, builder = GoogleReader("google", "gemini-x"), ReplyBuilder()
    for each in responses:
        data = each if isinstance(each, bytes) else json.dumps(each).encode()
        for chunk in reader.read(Frame(data)):
            builder.add(chunk)
    builder.add(reader.end())
    return builder.finish("RUN", 1)


def read_bytes(*pieces: bytes) -> Message:
    parser = SseParser()
    frames = [frame for piece in pieces for frame in parser.feed(piece)]
    return read(*(frame.data for frame in [*frames, *parser.end()]))


def sent_back(reply: Message) -> list[dict[str, Any]]:
    """The parts of the reply in the next request, after it was stored."""
    stored = decode_message(encode_message(reply))
    body = request_body(ModelRequest("gemini-x", (stored,)), read_settings("google", {}), provider="google")
    if not body["contents"]:
        return []
    check_google(json.loads(json.dumps(body)))
    (content,) = body["contents"]
    assert content["role"] == "model"
    parts: list[dict[str, Any]] = content["parts"]
    return parts


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Gemini may expect back: neighbours among unsigned texts, and among unsigned thoughts, are one."""
    whole: list[dict[str, Any]] = []
    for part in parts:
        is_plain = set(part) <= {"text", "thought"}
        if is_plain and not part["text"]:
            continue
        if is_plain and whole and set(whole[-1]) == set(part):
            whole[-1] = {**part, "text": whole[-1]["text"] + part["text"]}
        else:
            whole.append(part)
    return whole


def calls_of(reply: Message) -> list[tuple[str, dict[str, Any], str | None]]:
    return [(call.name, call.arguments, call.provider_call_id) for call in reply.tool_calls]


# As it comes: thoughts, words, a first call that is signed and a second that is not, a signature at the end.
TURN = [
    response(thought("I need ")),
    response(thought("weather.")),
    response(text("Looking ")),
    response(text("up:\u2028 e\u0301 \U0001f600")),
    response(
        call("get_weather", {"city": "Oslo", "days": 3, "near": [1.5, None, {"x": True}]}, "fc1", FIRST),
        call("get_time", {}, "fc2"),
    ),
    end(text("", SECOND)),
]


class TestReplies:
    def test_a_whole_turn(self):
        reply = read(*TURN)
        assert (reply.model, reply.stop_reason) == ("gemini-x-001", StopReason.TOOL_CALLS)
        assert reply.parts[0] == ReasoningPart(text="I need weather.", native={"thought": True})
        assert reply.text == "Looking up:\u2028 e\u0301 \U0001f600"
        assert calls_of(reply) == [
            ("get_weather", {"city": "Oslo", "days": 3, "near": [1.5, None, {"x": True}]}, "fc1"),
            ("get_time", {}, "fc2"),
        ]
        assert reply.usage == Usage(input_tokens=100, output_tokens=7, cached_input_tokens=20, reasoning_tokens=3)

    def test_plain_words_keep_nothing_of_the_provider(self):
        reply = read(*says("It ", "is ", "16."))
        assert (reply.parts, reply.origin) == ((TextPart(text="It is 16."),), None)

    def test_tools_of_the_server_read_input_too_and_counts_that_come_once_are_kept(self):
        first = response(text("x"), usageMetadata={"promptTokenCount": 9, "toolUsePromptTokenCount": 5})
        last = response(finish="STOP", usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 2})
        assert read(first, last).usage == Usage(input_tokens=15, output_tokens=2)

    @pytest.mark.parametrize("odd", [{}, {"promptTokenCount": None}, {"promptTokenCount": "9"}, 7])
    def test_odd_usage_is_no_usage(self, odd: Any):
        assert read(response(text("x"), finish="STOP", usageMetadata=odd)).usage == Usage()

    @pytest.mark.parametrize(
        ("finish", "expected"),
        [
            ("STOP", StopReason.END),
            ("FUNCTION_CALL", StopReason.END),  # there is none
            ("A_NEW_WORD", StopReason.END),
            ("MAX_TOKENS", StopReason.MAX_TOKENS),
            ("CONTINUATION", StopReason.MAX_TOKENS),
            ("SAFETY", StopReason.CONTENT_FILTER),
            ("RECITATION", StopReason.CONTENT_FILTER),
            ("PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
            ("IMAGE_SAFETY", StopReason.CONTENT_FILTER),
            ("LANGUAGE", StopReason.CONTENT_FILTER),
        ],
    )
    def test_why_the_model_stopped(self, finish: str, expected: StopReason):
        reply = read(response(text("x")), response(finish=finish))
        assert (reply.stop_reason, reply.text) == (expected, "x")

    @pytest.mark.parametrize(
        "odd",
        [
            {"candidates": [{"content": {}, "index": 0}]},
            {"candidates": [{"content": {"role": "model"}}]},
            {"candidates": [{"content": {"parts": [{}, None, {"text": None}]}}]},
            {"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]},
            {"candidates": [None]},
            {"candidates": []},
            {"usageMetadata": {}, "promptFeedback": {"safetyRatings": []}},
            {"candidates": [{"index": 1, "content": {"parts": [{"text": "another"}]}, "finishReason": "SAFETY"}]},
            {},
            b"[DONE]",
            b"  ",
        ],
    )
    def test_responses_without_content_say_nothing(self, odd: Any):
        reply = read(odd, response(text("yes")), odd, end(), odd)
        assert (reply.text, reply.stop_reason) == ("yes", StopReason.END)

    def test_a_model_that_says_stop_with_every_response_is_read_to_the_end(self):
        reader = GoogleReader("google", "gemini-x")
        frames = [Frame(json.dumps(end(text(word))).encode()) for word in ("1", "6")]
        assert (len(reader.read(frames[0])), reader.has_ended, reader.is_done) == (1, True, True)
        assert (len(reader.read(frames[1])), reader.has_ended, reader.is_done) == (1, False, False)
        assert reader.end().stop_reason is StopReason.END
        assert read(*(frame.data for frame in frames)).text == "16"

    def test_keys_that_say_nothing_do_not_part_a_text(self):
        """Servers in between write every key of the type."""
        null = {"thought": None, "thoughtSignature": None, "functionCall": None}
        reply = read(response({"text": "1"} | null), response({"text": "6", "thought": False}), end())
        assert reply.parts == (TextPart(text="16"),)

    @pytest.mark.parametrize(
        ("feedback", "words"),
        [
            ({"blockReason": "SAFETY"}, "the prompt was blocked (SAFETY)"),
            ({"blockReason": "OTHER", "blockReasonMessage": "No  way."}, "the prompt was blocked (OTHER: No way.)"),
        ],
    )
    def test_a_blocked_prompt_says_why(self, feedback: dict[str, Any], words: str):
        reply = read({"promptFeedback": feedback, "usageMetadata": USAGE})
        assert (reply.stop_reason, reply.text) == (StopReason.CONTENT_FILTER, words)

    def test_a_filtered_reply_without_words_says_why(self):
        stopped = {"candidates": [{"content": {}, "finishReason": "SAFETY", "finishMessage": "Unsafe."}]}
        reply = read(response(thought("hm")), stopped)
        assert (reply.stop_reason, reply.text) == (StopReason.CONTENT_FILTER, "SAFETY: Unsafe.")

    @pytest.mark.parametrize(
        ("made", "error"),
        [
            ({"name": "delete", "args": {"all": True}}, None),
            ({"name": "delete", "args": {}}, None),
            ({"name": "delete"}, CUT),
        ],
    )
    def test_a_call_at_the_token_limit_is_made_if_it_is_whole(self, made: Any, error: str | None):
        reply = read(response({"functionCall": made}), response(finish="MAX_TOKENS"))
        assert reply.stop_reason is StopReason.MAX_TOKENS
        assert [call.arguments_error for call in reply.tool_calls] == [error]

    @pytest.mark.parametrize(
        ("made", "words"),
        [
            (b'{"name":"f","args":[1]}', "must be a JSON object"),
            (b'{"name":"f","args":"{}"}', "must be a JSON object"),
            (b'{"name":"f","args":{"x":1e999}}', "not valid JSON"),
            (b'{"args":{}}', "the call names no tool"),
        ],
    )
    def test_a_call_that_cannot_be_made_says_why(self, made: bytes, words: str):
        frame = b'{"candidates":[{"content":{"parts":[{"functionCall":' + made + b"}]}}]}"
        reply = read(frame, end())
        assert words in (reply.tool_calls[0].arguments_error or "")
        (part,) = sent_back(reply)
        assert part["functionCall"]["args"] == {}

    def test_half_an_emoji_becomes_a_question_mark(self):
        assert read(b'{"candidates":[{"content":{"parts":[{"text":"\\ud83d"}]}}]}', end()).text == "?"


class TestFailures:
    def test_a_stream_without_its_end_was_cut(self):
        with pytest.raises(ProviderError, match="cut before the reply was complete") as caught:
            read(*TURN[:-1])
        assert caught.value.retryable

    def test_an_error_in_lines_of_its_own_breaks_the_stream_off(self):
        """Not as an event: Google sends some errors so."""
        with pytest.raises(ProviderError, match=r"google broke the reply off \(503\)"):
            read_bytes(encoded(TURN[:2], done=False), b'{\n  "error": {\n    "code": 503\n  }\n}\n')

    @pytest.mark.parametrize(
        ("reason", "retryable", "words"),
        [
            ("MALFORMED_FUNCTION_CALL", True, "a tool call that cannot be read"),
            ("UNEXPECTED_TOOL_CALL", True, "a tool that it was not offered"),
            ("TOO_MANY_TOOL_CALLS", True, "too many tools"),
            ("MISSING_THOUGHT_SIGNATURE", True, "signature is missing"),
            ("MALFORMED_RESPONSE", True, "a reply that cannot be read"),
            ("OTHER", True, "does not tell"),
            ("PUP_LIMITED_DISABLED", False, "limited or disabled"),
        ],
    )
    def test_ends_that_are_no_reply(self, reason: str, retryable: bool, words: str):
        stopped = {"candidates": [{"content": {}, "finishReason": reason, "finishMessage": "call:f({"}]}
        with pytest.raises(ProviderError, match=rf"{words}.* \({reason}: call:f\(\{{\)") as caught:
            read(response(text("x")), stopped)
        assert (caught.value.retryable, caught.value.code) == (retryable, reason)

    @pytest.mark.parametrize(
        ("error", "retryable", "status", "wait_s"),
        [
            ({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, True, 503, None),
            ({"error": {"code": 500, "message": "m", "status": "INTERNAL"}}, True, 500, None),
            ([{"error": {"code": 504, "message": "m", "status": "DEADLINE_EXCEEDED"}}], True, 504, None),
            ({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, False, 400, None),
            (quota(delay="46.5s"), True, 429, 46.5),
            (quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), False, 429, 46),
        ],
    )
    def test_an_error_in_the_stream(self, error: Any, retryable: bool, status: int, wait_s: float | None):
        with pytest.raises(ProviderError) as caught:
            read(response(text("x")), error)
        told = (error[0] if isinstance(error, list) else error)["error"]["status"]
        assert (caught.value.retryable, caught.value.status, caught.value.code) == (retryable, status, told)
        assert caught.value.retry_after_s == wait_s

    @pytest.mark.parametrize(
        "made", [{"name": "f", "partialArgs": []}, {"name": "f", "args": {}, "willContinue": True}]
    )
    def test_calls_in_pieces_are_refused(self, made: Any):
        with pytest.raises(ProviderError, match="in pieces") as caught:
            read(response({"functionCall": made}))
        assert not caught.value.retryable

    @pytest.mark.parametrize("frame", [b'{"candidates": [', b"<html>", b"[1, 2]", b'"text"', b"[" * 100_000])
    def test_what_is_no_json_object_is_told(self, frame: bytes):
        with pytest.raises(ProviderError, match="no JSON object") as caught:
            read(frame)
        assert caught.value.retryable


class TestWholeReplies:
    def whole(self, body: Any) -> Message:
        reader, builder = GoogleReader("google", "gemini-x"), ReplyBuilder()
        for chunk in reader.read_whole(json.dumps(body).encode()):
            builder.add(chunk)
        builder.add(reader.end())
        return builder.finish("RUN", 1)

    def test_the_list_that_comes_without_sse_is_the_same_reply(self):
        assert self.whole(TURN) == read(*TURN)

    def test_a_single_response(self):
        parts = [part for each in TURN for part in each["candidates"][0]["content"]["parts"]]
        assert self.whole(end(*parts)) == read(*TURN)

    @pytest.mark.parametrize("body", [{"detail": "no"}, {}, [{}]])
    def test_json_that_is_no_reply_is_refused(self, body: Any):
        with pytest.raises(ProviderError, match="sent no reply") as caught:
            self.whole(body)
        assert not caught.value.retryable

    @pytest.mark.parametrize("body", [[], 7, "text", [1]])
    def test_json_that_is_no_object_is_told(self, body: Any):
        with pytest.raises(ProviderError, match="no JSON object"):
            self.whole(body)


# --- replay

_texts = st.text(max_size=5)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=5,
)
_signatures = st.none() | st.sampled_from([FIRST, SECOND])
_parts = st.one_of(
    st.builds(text, _texts, _signatures),
    st.builds(thought, _texts, _signatures),
    st.builds(
        call,
        st.sampled_from(["f", "get_weather"]),
        st.dictionaries(_texts, _json, max_size=2),
        st.none() | st.sampled_from(["fc1", "fc2"]),
        _signatures,
    ),
    st.just({"functionCall": {"name": "f"}}),
    st.just({"executableCode": {"language": "PYTHON", "code": "1"}}),
    st.just({"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}, "thoughtSignature": FIRST}),
)


class TestReplay:
    def test_a_turn_goes_back_as_it_came(self):
        parts = [part for each in TURN for part in each["candidates"][0]["content"]["parts"]]
        assert sent_back(read(*TURN)) == joined(parts)

    @pytest.mark.parametrize(
        "parts",
        [
            [text("Hel"), text("lo"), text("!", FIRST), text("?"), text("", SECOND)],
            [thought("a"), thought("b", FIRST), thought("c"), text("d")],
            [thought("a"), call("f", None, None)],
            [call("f", {"x": 1}, None), call("f", {"x": 1}, None)],
            [call("f", {"x": 1}, "same", FIRST), call("f", {"x": 2}, "same")],
            [text("x"), {"functionCall": {"name": "f"}, "thoughtSignature": FIRST}],
            [{"thoughtSignature": FIRST}],
        ],
    )
    def test_signatures_stay_where_they_are(self, parts: list[dict[str, Any]]):
        """One part a frame, and all in one."""
        assert sent_back(read(*(response(part) for part in parts), end())) == joined(parts)
        assert sent_back(read(end(*parts))) == joined(parts)

    @given(st.lists(st.lists(_parts, max_size=3), max_size=4))
    def test_whatever_the_parts_and_the_frames(self, frames: list[list[dict[str, Any]]]):
        parts = joined([part for frame in frames for part in frame])
        reply = read(*(response(*frame) for frame in frames), end())
        if all(part.get("thought") for part in parts):
            assert sent_back(reply) == []  # thoughts alone are no content
        else:
            assert sent_back(reply) == parts

    @given(st.lists(st.lists(_parts, max_size=3), min_size=1, max_size=4))
    def test_googles_own_sdk_reads_the_same(self, frames: list[list[dict[str, Any]]]):
        stream = encoded([*(response(*frame) for frame in frames), end(text("ok"))], done=False)
        assert decoded(joined(sdk_parts(stream))) == decoded(sent_back(read_bytes(stream)))

    @given(st.data())
    def test_wherever_the_network_cuts_it(self, data: st.DataObject):
        stream = encoded(TURN, done=False).replace(b"\n\n", data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        pieces = [stream[begin:until] for begin, until in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert read_bytes(*pieces) == read(*TURN)
