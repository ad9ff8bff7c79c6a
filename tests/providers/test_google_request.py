"""What goes out is what Google's own SDK would send, to the key."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from agentq.errors import ProviderError
from agentq.messages import (
    FilePart,
    Message,
    NoteKind,
    Origin,
    ReasoningPart,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    note_message,
    results_message,
    user_message,
)
from agentq.providers._google_request import FOREIGN_SIGNATURE, request_body
from agentq.providers._google_settings import read_settings
from agentq.providers.base import ModelRequest, OutputFormat
from agentq.tools.spec import ToolSpec
from tests.providers.gemini import FIRST
from tests.providers.strict_google import check_google

MODEL = "gemini-3-flash"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "The weather now", SCHEMA)
OUTPUT = OutputFormat("answer", {"type": "object", "properties": {"a": {"type": "string"}}})
PNG, PDF, WAV, TEXT = b"\x89PNG\r\n", b"%PDF-1.7", b"RIFF\xfb\xff", "Grüße".encode()
FILES = {hashlib.sha256(content).hexdigest(): content for content in (PNG, PDF, WAV, TEXT)}
HI = user_message("Hi")


def stored(content: bytes, media_type: str, name: str | None = None) -> FilePart:
    digest = hashlib.sha256(content).hexdigest()
    return FilePart(url=f"agentq:{digest}", media_type=media_type, name=name, size=len(content))


def asks(*parts: Any) -> Message:
    return Message(
        role=Role.USER, parts=tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    )


def replies(*parts: Any, origin: Origin | None = None) -> Message:
    return Message(role=Role.ASSISTANT, parts=parts, stop_reason=StopReason.TOOL_CALLS, origin=origin)


def called(call_id: str, theirs: str | None = None, native: dict[str, Any] | None = None) -> ToolCallPart:
    return ToolCallPart(
        call_id=call_id, name="get_weather", arguments={"city": "Oslo"}, provider_call_id=theirs, native=native
    )


def result(call_id: str, theirs: str | None = None, content: str = "rain", outcome: Any = "ok") -> ToolResultPart:
    return ToolResultPart(
        call_id=call_id, name="get_weather", content=content, provider_call_id=theirs, outcome=outcome
    )


def body_of(*messages: Message, request: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The body as it goes over the wire; the SDK must send the same."""
    asked = ModelRequest(**{"model": MODEL, "messages": messages or (HI,), "files": FILES} | (request or {}))
    body = request_body(asked, read_settings("google", settings), provider="google")
    sent: dict[str, Any] = json.loads(json.dumps(body))
    if not settings.get("extra_body"):
        check_google(sent)
    return sent


def config_of(request: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    config: dict[str, Any] = body_of(request=request, **settings).get("generationConfig", {})
    return config


def calling_of(**settings: Any) -> Any:
    return body_of(request={"tools": (WEATHER,)}, **settings).get("toolConfig", {}).get("functionCallingConfig")


OURS = Origin(api="google/v1beta", model=MODEL)
EVERYTHING: dict[str, Any] = {
    "max_tokens": 4000,
    "temperature": 1.0,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 7,
    "stop": ["END"],
    "reasoning_effort": "medium",
    "tool_choice": "auto",
    "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
}


def everything() -> dict[str, Any]:
    return body_of(
        asks("Look: ", stored(PNG, "image/png"), stored(WAV, "audio/wav")),
        replies(
            ReasoningPart(text="hm", native={"thought": True}),
            TextPart(text="Looking."),
            called("R.1.0", "fc1", {"thoughtSignature": FIRST}),
            called("R.1.1", "fc2"),
            origin=OURS,
        ),
        results_message([result("R.1.0", "fc1"), result("R.1.1", "fc2", "broken", "error")]),
        note_message("Go on.", NoteKind.TOOL_ERROR),
        replies(TextPart(text="Rain.")),
        user_message("Thanks"),
        request={"instructions": "Be brief.", "tools": (WEATHER,), "output": OUTPUT},
        **EVERYTHING,
    )


class TestTheBody:
    def test_nothing_is_sent_that_nobody_set(self):
        assert body_of() == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}

    def test_everything_at_once(self):
        body = everything()
        assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
        assert [content["role"] for content in body["contents"]] == ["user", "model", "user", "user", "model", "user"]
        assert body["tools"] == [
            {
                "functionDeclarations": [
                    {"name": "get_weather", "description": "The weather now", "parametersJsonSchema": SCHEMA}
                ]
            }
        ]
        assert body["safetySettings"] == EVERYTHING["safety_settings"]
        assert body["generationConfig"] == {
            "maxOutputTokens": 4000,
            "temperature": 1.0,
            "topP": 0.9,
            "topK": 40,
            "seed": 7,
            "stopSequences": ["END"],
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
            "responseMimeType": "application/json",
            "responseJsonSchema": OUTPUT.schema,
        }

    @pytest.mark.parametrize(
        "plant",
        [
            lambda body: body.update(system_instruction=body["systemInstruction"]),
            lambda body: body["generationConfig"].update(max_output_tokens=5),
            lambda body: body["generationConfig"].update(maxOutputTokens="5"),
            lambda body: body["generationConfig"]["thinkingConfig"].update(thinkingLevel="medium"),
            lambda body: body["contents"][1]["parts"][2]["functionCall"].update(arguments={}),
            lambda body: body["contents"][1]["parts"][2]["functionCall"].update(args="{}"),
            lambda body: body["contents"][1]["parts"][2].update(thoughtSignature="?"),
            lambda body: body["contents"][1]["parts"][0].update(thought="yes"),
            lambda body: body["contents"][2]["parts"][0]["functionResponse"].update(response="rain"),
            lambda body: body["contents"][0]["parts"][1]["inlineData"].update(mime_type="image/png"),
            lambda body: body["tools"][0]["functionDeclarations"][0].update(strict=True),
            lambda body: body["toolConfig"]["functionCallingConfig"].update(mode="any"),
            lambda body: body["safetySettings"][0].update(level=1),
        ],
    )
    def test_the_check_itself_finds_mistakes(self, plant: Any):
        body = everything()
        broken = copy.deepcopy(body)
        plant(broken)
        check_google(body)
        with pytest.raises((ValidationError, AssertionError)):
            check_google(broken)

    def test_a_single_stop_becomes_a_list(self):
        assert config_of(stop="END") == {"stopSequences": ["END"]}

    @pytest.mark.parametrize(
        ("settings", "thinking"),
        [
            ({"reasoning_effort": "xhigh"}, {"thinkingLevel": "XHIGH", "includeThoughts": True}),
            (
                {"reasoning_effort": "low", "include_thoughts": False},
                {"thinkingLevel": "LOW", "includeThoughts": False},
            ),
            ({"thinking_budget": 512}, {"thinkingBudget": 512, "includeThoughts": True}),
            ({"thinking_budget": -1}, {"thinkingBudget": -1, "includeThoughts": True}),
            ({"thinking_budget": 0}, {"thinkingBudget": 0, "includeThoughts": False}),
            ({"include_thoughts": True}, {"includeThoughts": True}),
        ],
    )
    def test_thinking(self, settings: dict[str, Any], thinking: dict[str, Any]):
        assert config_of(**settings) == {"thinkingConfig": thinking}

    @pytest.mark.parametrize(
        ("settings", "sent"),
        [
            ({}, None),
            ({"parallel_tool_calls": True}, None),
            ({"tool_choice": "auto"}, {"mode": "AUTO"}),
            ({"tool_choice": "none"}, {"mode": "NONE"}),
            ({"tool_choice": "required"}, {"mode": "ANY"}),
            ({"tool_choice": "get_weather"}, {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
            ({"tool_choice": {"mode": "VALIDATED"}}, {"mode": "VALIDATED"}),
            ({"strict_tools": True}, {"mode": "VALIDATED"}),
            ({"strict_tools": True, "tool_choice": "auto"}, {"mode": "VALIDATED"}),
            ({"strict_tools": True, "tool_choice": "required"}, {"mode": "ANY"}),
            ({"strict_tools": True, "tool_choice": "none"}, {"mode": "NONE"}),
        ],
    )
    def test_how_the_model_may_call(self, settings: dict[str, Any], sent: Any):
        assert calling_of(**settings) == sent
        assert "toolConfig" not in body_of(**settings)

    @pytest.mark.parametrize(
        ("model", "tools", "is_sent"),
        [
            ("gemini-3-flash", (), True),
            ("gemini-3-flash", (WEATHER,), True),
            ("gemini-2.5-flash", (), True),
            ("gemini-2.5-flash", (WEATHER,), False),
            ("models/gemini-2.5-flash", (WEATHER,), False),
        ],
    )
    def test_the_form_of_the_answer(self, model: str, tools: Any, is_sent: bool):
        """Models up to 2.5 take either tools or a form; the loop checks the answer all the same."""
        config = config_of({"model": model, "tools": tools, "output": OUTPUT})
        assert (config.get("responseJsonSchema"), config.get("responseMimeType")) == (
            (OUTPUT.schema, "application/json") if is_sent else (None, None)
        )

    def test_a_cache_brings_instructions_and_tools(self):
        body = body_of(request={"instructions": "Be brief.", "tools": (WEATHER,)}, cached_content="cachedContents/a")
        assert set(body) == {"contents", "cachedContent"}

    def test_the_extra_body_comes_last_and_joins_what_is_there(self):
        extra = {"generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "maxOutputTokens": 6}, "labels": {}}
        body = body_of(max_tokens=5, temperature=0.5, extra_body=extra)
        assert body["generationConfig"] == {
            "maxOutputTokens": 6,
            "temperature": 0.5,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
        }
        assert body["labels"] == {}


class TestContents:
    def parts(self, *messages: Message, **request: Any) -> list[list[dict[str, Any]]]:
        return [content["parts"] for content in body_of(*messages, request=request)["contents"]]

    def test_notes_are_the_users_and_join_what_the_user_says(self):
        body = body_of(HI, note_message("One.", NoteKind.REFUSED), note_message("Two.", NoteKind.REFUSED))
        assert body["contents"] == [{"role": "user", "parts": [{"text": "Hi"}, {"text": "One."}, {"text": "Two."}]}]

    def test_results_have_a_content_of_their_own(self):
        parts = self.parts(
            HI,
            replies(called("R.1.0", "a"), called("R.1.1", "b")),
            results_message([result("R.1.0", "a"), result("R.1.1", "b")]),
            note_message("Go on.", NoteKind.TOOL_ERROR),
            user_message("And?"),
        )
        assert [[*part] for part in parts[2]] == [["functionResponse"], ["functionResponse"]]
        assert parts[3] == [{"text": "Go on."}, {"text": "And?"}]

    @pytest.mark.parametrize(
        ("outcome", "key"), [("ok", "output"), ("error", "error"), ("unknown", "output"), ("cancelled", "output")]
    )
    def test_a_failed_call_is_told_as_such(self, outcome: str, key: str):
        parts = self.parts(HI, replies(called("R.1.0", "a")), results_message([result("R.1.0", "a", "x", outcome)]))
        assert parts[2] == [{"functionResponse": {"id": "a", "name": "get_weather", "response": {key: "x"}}}]

    def test_results_follow_the_order_of_their_calls(self):
        """Calls that have no id are told apart by it."""
        own = replies(called("R.1.0", native={"thoughtSignature": FIRST}), called("R.1.1"), origin=OURS)
        parts = self.parts(HI, own, results_message([result("R.1.1", content="b"), result("R.1.0", content="a")]))
        assert [part["functionResponse"]["response"]["output"] for part in parts[2]] == ["a", "b"]
        assert [part["functionResponse"].get("id") for part in parts[2]] == [None, None]
        assert [part["functionCall"].get("id") for part in parts[1]] == [None, None]

    def test_a_reply_goes_back_as_it_came(self):
        own = replies(
            ReasoningPart(text="hm", native={"thought": True}),
            ReasoningPart(text="so", signature=FIRST),
            TextPart(text="Look"),
            TextPart(text="ing", native={"thoughtSignature": FIRST}),
            TextPart(text="", native={"part": {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}}}),
            called("R.1.0", "a", {"thoughtSignature": FIRST}),
            called("R.1.1", "b", {"functionCall": {"args": None}}),
            TextPart(text="", native={"thoughtSignature": FIRST}),
            origin=OURS,
        )
        assert self.parts(HI, own)[1] == [
            {"text": "hm", "thought": True},
            {"text": "so", "thought": True, "thoughtSignature": FIRST},
            {"text": "Look"},
            {"text": "ing", "thoughtSignature": FIRST},
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}},
            {"functionCall": {"id": "a", "name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": FIRST},
            {"functionCall": {"id": "b", "name": "get_weather"}},
            {"text": "", "thoughtSignature": FIRST},
        ]

    @pytest.mark.parametrize(
        "origin",
        [None, Origin(api="anthropic/2023-06-01", model="claude"), Origin(api="google/v1beta", model="gemini-2.5-pro")],
    )
    def test_a_reply_of_another_model_keeps_its_words_and_calls(self, origin: Origin | None):
        """Its reasoning and signatures mean nothing here; the first call of each reply says that it has none."""
        other = replies(
            ReasoningPart(text="hm", signature="theirs"),
            TextPart(text="Looking.", native={"thoughtSignature": FIRST}),
            TextPart(text="", native={"phase": "commentary"}),
            called("R.1.0", "toolu_1", {"thoughtSignature": FIRST}),
            called("R.1.1"),
            called("R.1.2", "toolu_1"),
            origin=origin,
        )
        answers = results_message([result("R.1.0", "toolu_1"), result("R.1.1"), result("R.1.2", "toolu_1")])
        again = replies(called("R.2.0", "toolu_2"))
        parts = self.parts(HI, other, answers, again, results_message([result("R.2.0", "toolu_2")]))
        text, *calls = parts[1]
        assert text == {"text": "Looking."}
        assert [call["functionCall"]["id"] for call in calls] == ["toolu_1", "R-1-1", "R-1-2"]
        assert [part["functionResponse"]["id"] for part in parts[2]] == ["toolu_1", "R-1-1", "R-1-2"]
        assert [call.get("thoughtSignature") for call in calls] == [FOREIGN_SIGNATURE, None, None]
        assert parts[3][0]["thoughtSignature"] == FOREIGN_SIGNATURE

    @pytest.mark.parametrize("origin", [None, OURS])
    def test_thoughts_alone_are_no_content(self, origin: Origin | None):
        silent = replies(ReasoningPart(text="hm", native={"thought": True} if origin else None), origin=origin)
        assert self.parts(HI, silent, user_message("?")) == [[{"text": "Hi"}, {"text": "?"}]]


class TestFiles:
    def content(self, *parts: Any) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = body_of(asks(*parts))["contents"][0]["parts"]
        return sent

    @pytest.mark.parametrize(
        ("content", "media_type"),
        [(PNG, "image/png"), (PDF, "application/pdf"), (WAV, "audio/wav"), (WAV, "video/mp4")],
    )
    def test_a_file_travels_as_data(self, content: bytes, media_type: str):
        text, part = self.content("What is this?", stored(content, media_type, "a"))
        assert text == {"text": "What is this?"}
        assert part["inlineData"]["mimeType"] == media_type
        assert base64.b64decode(part["inlineData"]["data"], validate=True) == content

    @pytest.mark.parametrize("media_type", ["image/png", "application/pdf", "video/mp4", "text/plain"])
    def test_a_file_by_url_is_fetched_by_the_server(self, media_type: str):
        (part,) = self.content(FilePart(url="https://example.org/a", media_type=media_type))
        assert part == {"fileData": {"mimeType": media_type, "fileUri": "https://example.org/a"}}

    @pytest.mark.parametrize("media_type", ["text/plain", "text/csv", "application/json"])
    def test_text_is_written_into_the_message(self, media_type: str):
        (part,) = self.content(stored(TEXT, media_type, "hi.txt"))
        assert part == {"text": f"hi.txt ({media_type}):\n\nGrüße"}

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            (stored(b"missing", "image/png"), "its content is not there"),
            (stored(PNG, "application/zip", "a.zip"), r"cannot take a.zip \(application/zip\): it takes image/"),
            (FilePart(url="https://example.org/a.zip", media_type="application/zip"), "it takes image/"),
        ],
    )
    def test_a_file_without_a_form_on_this_wire_is_refused(self, file: FilePart, words: str):
        with pytest.raises(ProviderError, match=words) as caught:
            self.content(file)
        assert not caught.value.retryable
