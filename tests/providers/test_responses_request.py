"""What goes out to OpenAI's Responses is what its own SDK would accept, to the key."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import ValidationError

from agentq.errors import InvalidInput, ProviderError
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
from agentq.providers._responses_items import origin_of
from agentq.providers._responses_request import request_body
from agentq.providers._responses_settings import ResponsesSettings, read_settings, server_of
from agentq.providers.base import ModelRequest, OutputFormat
from agentq.settings import OpenAIEnvironment
from agentq.tools.spec import ToolSpec
from tests.helpers import ROOT
from tests.providers.strict import check

OPENAI = OpenAIEnvironment(api_key="sk-test")
VLLM = OpenAIEnvironment(base_url="http://127.0.0.1:8000/v1")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT = SCHEMA | {"additionalProperties": False}
WEATHER = ToolSpec("get_weather", "The weather now", SCHEMA)
PNG, PDF, TEXT = b"\x89PNG\r\n", b"%PDF-1.7", "Grüße".encode()
FILES = {hashlib.sha256(content).hexdigest(): content for content in (PNG, PDF, TEXT)}


def stored(content: bytes, media_type: str, name: str | None = None) -> FilePart:
    digest = hashlib.sha256(content).hexdigest()
    return FilePart(url=f"agentq:{digest}", media_type=media_type, name=name, size=len(content))


def asks(*parts: Any) -> Message:
    return Message(
        role=Role.USER, parts=tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    )


def says(*parts: Any, origin: Origin | None = None) -> Message:
    return Message(role=Role.ASSISTANT, parts=parts, origin=origin, stop_reason=StopReason.END)


def call(own: str, theirs: str | None, native: dict[str, Any] | None = None, **arguments: Any) -> ToolCallPart:
    return ToolCallPart(
        call_id=own, name="get_weather", arguments=arguments or {"city": "Oslo"}, provider_call_id=theirs, native=native
    )


def results(*ids: tuple[str, str | None], outcome: Any = "ok", content: str = "rain") -> Message:
    return results_message(
        ToolResultPart(call_id=own, name="get_weather", content=content, provider_call_id=theirs, outcome=outcome)
        for own, theirs in ids
    )


def body_of(
    *messages: Message,
    environment: OpenAIEnvironment = OPENAI,
    request: dict[str, Any] | None = None,
    model: str = "gpt-x",
    **settings: Any,
) -> dict[str, Any]:
    """The body as it goes over the wire. It must be of the SDK's type, whatever the server."""
    checked = read_settings("openai", settings)
    asked = ModelRequest(model, messages or (user_message("Hi"),), files=FILES, **(request or {}))
    body: dict[str, Any] = json.loads(
        json.dumps(request_body(asked, checked, server_of(checked, environment), provider="openai"))
    )
    if not settings.get("extra_body"):
        check(ResponseCreateParamsStreaming, body)
    return body


def input_of(*messages: Message, **more: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = body_of(*messages, **more)["input"]
    return sent


ONE = (("R.1.0", "call_1"),)
TWO = (("R.1.0", "call_1"), ("R.1.1", "call_2"))
OWN = says(
    ReasoningPart(text="Hm.", native={"id": "rs_1", "encrypted_content": "gAAA"}),
    TextPart(text="Looking.", native={"id": "msg_1", "status": "completed", "phase": "commentary"}),
    call("R.1.0", "call_1", {"id": "fc_1", "status": "completed", "arguments": '{"city": "Oslo"}'}),
    origin=origin_of("gpt-x"),
)
OWN_ITEMS = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "encrypted_content": "gAAA",
        "summary": [{"type": "summary_text", "text": "Hm."}],
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "status": "completed",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": '{"city": "Oslo"}',
    },
]


class TestTheBody:
    def test_nothing_is_sent_that_nobody_set(self):
        assert body_of() == {
            "model": "gpt-x",
            "input": [{"type": "message", "role": "user", "content": "Hi"}],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
        }

    def test_everything_at_once_is_of_the_sdks_type(self):
        body = body_of(
            asks("Look: ", stored(PNG, "image/png"), stored(PDF, "application/pdf", "a.pdf")),
            OWN,
            results(*ONE),
            note_message("Go on.", NoteKind.TOOL_ERROR),
            says(TextPart(text="Rain.")),
            user_message("Thanks"),
            request={
                "instructions": "Be brief.",
                "tools": (WEATHER,),
                "run_id": "R",
                "session_id": "user-42",
                "output": OutputFormat("answer", STRICT),
            },
            max_tokens=2000,
            temperature=0.5,
            top_p=0.9,
            reasoning_effort="medium",
            reasoning_summary="auto",
            verbosity="low",
            service_tier="auto",
            truncation="disabled",
            tool_choice="required",
            parallel_tool_calls=True,
            strict_tools=True,
        )
        assert [item.get("role", item["type"]) for item in body["input"]] == [
            "user",
            "reasoning",
            "assistant",
            "function_call",
            "function_call_output",
            "developer",
            "assistant",
            "user",
        ]
        assert body["instructions"] == "Be brief."
        assert body["tools"] == [
            {
                "type": "function",
                "name": "get_weather",
                "description": "The weather now",
                "parameters": SCHEMA,
                "strict": True,
            }
        ]
        assert body["reasoning"] == {"effort": "medium", "summary": "auto"}
        assert body["text"]["verbosity"] == "low"
        assert body["max_output_tokens"] == 2000

    @pytest.mark.parametrize(
        "plant",
        [
            lambda body: body.update(max_tokens=5),
            lambda body: body["input"][0].update(name="x"),
            lambda body: body["input"][1].update(encrypted="x"),
            lambda body: body["input"][1].pop("summary"),
            lambda body: body["input"][2]["content"][0].update(type="text"),
            lambda body: body["input"][3].update(arguments={}),
            lambda body: body["input"][3].update(tool_call_id="call_1"),
            lambda body: body["input"][4].pop("output"),
            lambda body: body["tools"][0].pop("strict"),
            lambda body: body["tools"][0].update(function={}),
        ],
    )
    def test_the_check_itself_finds_mistakes(self, plant: Any):
        body = body_of(user_message("Hi"), OWN, results(*ONE), request={"tools": (WEATHER,)})
        broken = copy.deepcopy(body)
        plant(broken)
        with pytest.raises(ValidationError):
            check(ResponseCreateParamsStreaming, broken)

    @pytest.mark.parametrize(
        ("model", "settings", "is_asked"),
        [
            ("gpt-6-sol", {}, True),
            ("o3", {}, True),
            ("openai/gpt-oss-120b", {}, True),
            ("gpt-4o-mini", {}, False),
            ("ft:gpt-4.1-2025-04-14:me::x", {}, False),
            ("openai/gpt-4o", {}, False),
            ("gpt-5-chat-latest", {}, False),
            ("gpt-5", {}, True),
            ("gpt-6-sol", {"encrypted_reasoning": False}, False),
            ("gpt-4o-mini", {"encrypted_reasoning": True}, True),
        ],
    )
    def test_encrypted_reasoning_is_asked_for_where_there_is_some(self, model: str, settings: Any, is_asked: bool):
        """The models that do not reason answer 400 to it."""
        body = body_of(model=model, **settings)
        assert body.get("include") == (["reasoning.encrypted_content"] if is_asked else None)
        assert body["store"] is False

    def test_settings_of_tools_are_sent_with_tools_only(self):
        settings: dict[str, Any] = {"tool_choice": "auto", "parallel_tool_calls": False}
        assert {"tools", "tool_choice", "parallel_tool_calls"} & body_of(**settings).keys() == set()
        body = body_of(request={"tools": (WEATHER,)}, **settings)
        assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            ("none", "none"),
            ("get_weather", {"type": "function", "name": "get_weather"}),
            (
                {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
                {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            ),
        ],
    )
    def test_a_tool_can_be_forced_by_its_name(self, choice: Any, sent: Any):
        assert body_of(request={"tools": (WEATHER,)}, tool_choice=choice)["tool_choice"] == sent

    @pytest.mark.parametrize(
        ("strict", "sent"), [(False, False), (True, True), (["get_weather"], True), (["f"], False)]
    )
    def test_whether_tools_are_strict_is_always_said(self, strict: Any, sent: Any):
        """Where it is left out, the server makes a strict schema of its own."""
        (tool,) = body_of(request={"tools": (WEATHER,)}, strict_tools=strict)["tools"]
        assert tool["strict"] is bool(sent)

    def test_a_schema_outside_the_strict_kind_is_a_wish(self):
        formats = [
            body_of(request={"output": OutputFormat("Answer[int] é", schema)})["text"]["format"]
            for schema in (STRICT, SCHEMA)
        ]
        assert formats == [
            {"type": "json_schema", "name": "Answer_int", "schema": STRICT, "strict": True},
            {"type": "json_schema", "name": "Answer_int", "schema": SCHEMA, "strict": False},
        ]
        assert body_of(request={"output": OutputFormat("é", STRICT)})["text"]["format"]["name"] == "answer"

    def test_the_extra_body_comes_last(self):
        body = body_of(max_tokens=5, extra_body={"top_k": 3, "max_output_tokens": 6})
        assert (body["top_k"], body["max_output_tokens"]) == (3, 6)

    def test_runs_of_a_session_share_a_cache_at_openai_and_nobody_learns_its_id(self):
        first = body_of(request={"run_id": "R1", "session_id": "ann@example.org"})["prompt_cache_key"]
        second = body_of(request={"run_id": "R2", "session_id": "ann@example.org"})["prompt_cache_key"]
        alone = body_of(request={"run_id": "R1"})["prompt_cache_key"]
        assert first == second != alone
        assert "ann" not in first
        assert "prompt_cache_key" not in body_of(environment=VLLM, request={"run_id": "R1"})
        assert body_of(environment=VLLM, prompt_cache_key="k")["prompt_cache_key"] == "k"


class TestReplies:
    def test_a_reply_of_this_model_goes_back_as_it_came(self):
        assert input_of(user_message("Hi"), OWN, results(*ONE))[1:4] == OWN_ITEMS

    def test_encrypted_reasoning_that_is_not_wanted_is_left_out_with_the_ids_that_hang_on_it(self):
        assert input_of(user_message("Hi"), OWN, results(*ONE), encrypted_reasoning=False)[1:3] == [
            {"type": "message", "role": "assistant", "content": "Looking.", "phase": "commentary"},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
        ]

    @pytest.mark.parametrize("origin", [origin_of("gpt-y"), Origin(api="anthropic/2023-06-01", model="gpt-x")])
    def test_of_another_model_or_vendor_only_what_it_says_goes_back(self, origin: Origin):
        foreign = OWN.model_copy(update={"origin": origin})
        assert input_of(user_message("Hi"), foreign, results(*ONE))[1:] == [
            {"type": "message", "role": "assistant", "content": "Looking."},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        ]

    @pytest.mark.parametrize(
        "ids",
        [
            (("R.1.0", None), ("R.1.1", None)),
            (("R.1.0", "same"), ("R.1.1", "same")),
            (("R.1.0", "x" * 65), ("R.1.1", "functions.add:0")),
        ],
        ids=["missing", "repeated", "not as the server takes them"],
    )
    def test_ids_are_unique_in_a_request_and_well_formed(self, ids: Any):
        later = tuple((own.replace("R.1", "R.2"), theirs) for own, theirs in ids)
        sent = input_of(
            user_message("Hi"),
            says(*(call(*each) for each in ids)),
            results(*ids),
            says(*(call(*each) for each in later), origin=origin_of("gpt-x")),
            results(*later),
        )
        made = [item["call_id"] for item in sent if item["type"] == "function_call"]
        assert made == [item["call_id"] for item in sent if item["type"] == "function_call_output"]
        assert len(set(made)) == 4
        assert all(len(each) <= 64 and "." not in each and ":" not in each for each in made)

    def test_results_in_another_order_find_their_calls(self):
        sent = input_of(user_message("Hi"), says(*(call(*each) for each in TWO)), results(*reversed(TWO)))
        assert [item["call_id"] for item in sent[3:]] == ["call_2", "call_1"]

    @pytest.mark.parametrize(
        ("outcome", "output"), [("ok", "x"), ("error", "Error: x"), ("unknown", "x"), ("cancelled", "x")]
    )
    def test_a_failed_call_says_so_in_its_text(self, outcome: str, output: str):
        sent = input_of(user_message("Hi"), says(call(*ONE[0])), results(*ONE, outcome=outcome, content="x"))
        assert sent[-1]["output"] == output

    def test_arguments_that_are_no_json_go_back_to_openai_alone(self):
        broken = call("R.1.0", "call_1", {"id": "fc_1", "arguments": "{oops"}).model_copy(
            update={"arguments": {}, "arguments_error": "not valid JSON"}
        )
        reply = says(broken, origin=origin_of("gpt-x"))
        sent = [input_of(reply, environment=environment)[0]["arguments"] for environment in (OPENAI, VLLM)]
        assert sent == ["{oops", "{}"]

    def test_what_a_cancelled_run_had_said_goes_back_as_words(self):
        partial = Message(
            role=Role.ASSISTANT,
            parts=(ReasoningPart(text="hm"), TextPart(text="It")),
            stop_reason=StopReason.CANCELLED,
        )
        assert input_of(user_message("Hi"), partial)[1:] == [{"type": "message", "role": "assistant", "content": "It"}]

    def test_a_reply_that_says_nothing_is_left_out(self):
        sent = input_of(user_message("Hi"), says(ReasoningPart(text="hm")), user_message("?"))
        assert [item["content"] for item in sent] == ["Hi\n\n?"]

    def test_notes_are_of_the_developer_at_openai(self):
        sent = input_of(user_message("Hi"), note_message("Go on.", NoteKind.REFUSED))
        assert sent[-1] == {"type": "message", "role": "developer", "content": "Go on."}

    def test_notes_are_the_users_elsewhere_and_roles_alternate(self):
        """Templates of open models take a system message at the beginning only, and no two of the user in a row."""
        note = note_message("Go on.", NoteKind.PROVIDER_ERROR)
        assert input_of(user_message("Hi"), note, note, environment=VLLM) == [
            {"type": "message", "role": "user", "content": "Hi\n\nGo on.\n\nGo on."}
        ]
        (sent,) = input_of(asks(stored(PNG, "image/png")), note, environment=VLLM)
        assert [part["type"] for part in sent["content"]] == ["input_image", "input_text"]


class TestFiles:
    def content(self, *parts: Any) -> Any:
        return input_of(asks(*parts))[0]["content"]

    def test_a_message_without_files_is_plain_text(self):
        assert self.content("Hello ", "world") == "Hello world"

    def test_an_image_travels_as_data(self):
        text, image = self.content("What is this?", stored(PNG, "image/png"))
        assert text == {"type": "input_text", "text": "What is this?"}
        scheme, data = image["image_url"].split(",")
        assert (image["type"], scheme, base64.b64decode(data)) == ("input_image", "data:image/png;base64", PNG)

    @pytest.mark.parametrize(
        ("media_type", "sent"),
        [
            ("image/png", {"type": "input_image", "image_url": "https://example.org/a", "detail": "auto"}),
            ("application/pdf", {"type": "input_file", "file_url": "https://example.org/a"}),
            ("text/plain", {"type": "input_file", "file_url": "https://example.org/a"}),
        ],
    )
    def test_a_file_by_url_is_fetched_by_the_server(self, media_type: str, sent: Any):
        assert self.content(FilePart(url="https://example.org/a", media_type=media_type)) == [sent]

    @pytest.mark.parametrize(("name", "sent"), [("a.pdf", "a.pdf"), (None, "file.pdf")])
    def test_a_pdf_travels_with_its_name(self, name: str | None, sent: str):
        (file,) = self.content(stored(PDF, "application/pdf", name))
        assert (file["type"], file["filename"]) == ("input_file", sent)
        assert base64.b64decode(file["file_data"].removeprefix("data:application/pdf;base64,")) == PDF

    @pytest.mark.parametrize("media_type", ["text/plain", "text/csv", "application/json"])
    def test_text_is_written_into_the_message(self, media_type: str):
        (part,) = self.content(stored(TEXT, media_type, "hi.txt"))
        assert part == {"type": "input_text", "text": f"hi.txt ({media_type}):\n\nGrüße"}

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            (stored(b"missing", "image/png"), "its content is not there"),
            (stored(PNG, "audio/wav", "a.wav"), r"cannot take a.wav \(audio/wav\): it takes image/"),
            (FilePart(url="https://example.org/a.wav", media_type="audio/wav"), "it takes image/"),
        ],
    )
    def test_a_file_without_a_form_on_this_wire_is_refused(self, file: FilePart, words: str):
        with pytest.raises(ProviderError, match=words) as caught:
            self.content(file)
        assert not caught.value.retryable


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "field", "words"),
        [
            ({"temprature": 0.5}, "temprature", "no such setting, did you mean 'temperature'"),
            ({"stop": ["END"]}, "stop", "openai speaks OpenAI's Responses, which has none; openai-chat has"),
            ({"seed": 7}, "seed", "openai has no such setting, openai-chat has"),
            ({"presence_penalty": 0.5}, "presence_penalty", "openai-chat has"),
            ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
            ({"encrypted_reasoning": "yes"}, "encrypted_reasoning", "valid boolean"),
            ({"extra_body": {"input": []}}, "extra_body", "'input', which agentq writes itself"),
        ],
    )
    def test_a_mistake_is_named(self, settings: dict[str, Any], field: str, words: str):
        with pytest.raises(InvalidInput, match=words) as caught:
            read_settings("openai", settings)
        assert caught.value.field == f"model_settings.{field}"

    def test_none_is_as_good_as_not_set(self):
        assert read_settings("openai", {"stop": None, "seed": None}) == read_settings("openai", {})

    def test_every_setting_is_on_the_page(self):
        page = (ROOT / "docs" / "guide" / "models.md").read_text()
        assert [name for name in ResponsesSettings.model_fields if f"`{name}`" not in page] == []

    @pytest.mark.parametrize(
        ("base", "url"),
        [
            (None, "https://api.openai.com/v1/responses"),
            ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/responses"),
            ("http://127.0.0.1:8000/v1/responses", "http://127.0.0.1:8000/v1/responses"),
        ],
    )
    def test_paths_are_joined_with_one_slash(self, base: str | None, url: str):
        assert server_of(read_settings("openai", {"base_url": base}), OPENAI).url == url

    def test_another_server_is_not_told_the_key_of_openai(self):
        settings = read_settings("openai", {"base_url": "https://openrouter.ai/api/v1"})
        assert "Authorization" not in server_of(settings, OPENAI).headers

    def test_a_model_may_think_in_silence_for_long(self):
        assert (read_settings("openai", {}).idle_s, read_settings("openai", {"idle_timeout_s": 5}).idle_s) == (300, 5)
