"""What goes out is what OpenAI's own SDK would accept, to the key; for other servers in the words that they take."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import ValidationError

from agentq.errors import ProviderError
from agentq.messages import (
    FilePart,
    Message,
    NoteKind,
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
from agentq.providers._chat_request import request_body
from agentq.providers._chat_settings import read_settings, server_of
from agentq.providers.base import ModelRequest, OutputFormat
from agentq.settings import OpenAIEnvironment
from agentq.tools.spec import ToolSpec
from tests.providers.strict import check

OPENAI = OpenAIEnvironment(api_key="sk-test")
OLLAMA = OpenAIEnvironment(base_url="http://127.0.0.1:11434/v1")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "The weather now", SCHEMA)
PNG, PDF, TEXT = b"\x89PNG\r\n", b"%PDF-1.7", "Grüße".encode()


def stored(content: bytes, media_type: str, name: str | None = None) -> FilePart:
    digest = hashlib.sha256(content).hexdigest()
    return FilePart(url=f"agentq:{digest}", media_type=media_type, name=name, size=len(content))


FILES = {hashlib.sha256(content).hexdigest(): content for content in (PNG, PDF, TEXT)}


def asks(*parts: Any) -> Message:
    return Message(
        role=Role.USER, parts=tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    )


def calls(*ids: tuple[str, str | None], text: str = "", reasoning: str = "", model: str = "m") -> Message:
    parts: list[Any] = [ReasoningPart(text=reasoning)] if reasoning else []
    parts += [TextPart(text=text)] if text else []
    parts += [
        ToolCallPart(call_id=own, name="get_weather", arguments={"city": "Oslo"}, provider_call_id=theirs)
        for own, theirs in ids
    ]
    return Message(role=Role.ASSISTANT, parts=tuple(parts), stop_reason=StopReason.TOOL_CALLS, model=model)


def results(*ids: tuple[str, str | None], outcome: Any = "ok", content: str = "rain") -> Message:
    return results_message(
        ToolResultPart(call_id=own, name="get_weather", content=content, provider_call_id=theirs, outcome=outcome)
        for own, theirs in ids
    )


def answer(text: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),), stop_reason=StopReason.END)


def body_of(
    *messages: Message, environment: OpenAIEnvironment = OPENAI, request: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    """The body as it goes over the wire, of the SDK's type but for the words that only other servers know."""
    checked = read_settings("openai", settings)
    server = server_of(checked, environment)
    asked = ModelRequest("gpt-x", messages or (user_message("Hi"),), files=FILES, **(request or {}))
    body: dict[str, Any] = json.loads(json.dumps(request_body(asked, checked, server, provider="openai")))
    if not settings.get("extra_body"):
        check(CompletionCreateParamsStreaming, body if server.is_openai else without_words_of_others(body))
    return body


def without_words_of_others(body: dict[str, Any]) -> dict[str, Any]:
    """What is left of a body for a compatible server when what OpenAI does not know is taken out."""
    known = copy.deepcopy(body)
    for message in known["messages"]:
        for field in ("reasoning", "reasoning_content", "reasoning_details"):
            message.pop(field, None)
        for call in message.get("tool_calls", ()):
            call.pop("extra_content", None)
    return known


ONE = (("R.1.0", "call_1"),)
TWO = (("R.1.0", "call_1"), ("R.1.1", "call_2"))


class TestTheBody:
    def test_nothing_is_sent_that_nobody_set(self):
        assert body_of() == {
            "model": "gpt-x",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_everything_at_once_is_of_the_sdks_type(self):
        body = body_of(
            asks("Look: ", stored(PNG, "image/png"), stored(PDF, "application/pdf", "a.pdf")),
            calls(*TWO, text="Looking.", reasoning="hm"),
            results(*TWO),
            note_message("Go on.", NoteKind.TOOL_ERROR),
            answer("Rain."),
            user_message("Thanks"),
            request={"instructions": "Be brief.", "tools": (WEATHER,), "run_id": "R", "session_id": "user-42"},
            max_tokens=2000,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.1,
            frequency_penalty=0.1,
            seed=7,
            stop=["END"],
            reasoning_effort="none",
            verbosity="low",
            service_tier="auto",
            response_format={"type": "json_object"},
            tool_choice="required",
            parallel_tool_calls=True,
            strict_tools=True,
        )
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["developer", "user", "assistant", "tool", "tool", "developer", "assistant", "user"]
        assert body["tools"] == [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "The weather now",
                    "parameters": SCHEMA,
                    "strict": True,
                },
            }
        ]
        assert body["max_completion_tokens"] == 2000

    @pytest.mark.parametrize(
        "plant",
        [
            lambda body: body.update(max_token=5),
            lambda body: body["messages"][0].update(name_="x"),
            lambda body: body["messages"][1]["tool_calls"][0].update(index=0),
            lambda body: body["messages"][1]["tool_calls"][0]["function"].update(arguments={}),
            lambda body: body["messages"][2].pop("tool_call_id"),
            lambda body: body["messages"][2].update(is_error=True),
            lambda body: body["tools"][0]["function"].update(input_schema={}),
            lambda body: body["tools"][0].pop("function"),
            lambda body: body["stream_options"].update(usage=True),
        ],
    )
    def test_the_check_itself_finds_mistakes(self, plant: Any):
        body = body_of(user_message("Hi"), calls(*ONE), results(*ONE), request={"tools": (WEATHER,)})
        broken = copy.deepcopy(body)
        plant(broken)
        check(CompletionCreateParamsStreaming, body)
        with pytest.raises(ValidationError):
            check(CompletionCreateParamsStreaming, broken)

    def test_settings_of_tools_are_sent_with_tools_only(self):
        settings: dict[str, Any] = {"tool_choice": "auto", "parallel_tool_calls": False}
        assert {"tools", "tool_choice", "parallel_tool_calls"} & body_of(**settings).keys() == set()
        body = body_of(request={"tools": (WEATHER,)}, **settings)
        assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            ("none", "none"),
            ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
            ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ],
    )
    def test_a_tool_can_be_forced_by_its_name(self, choice: Any, sent: Any):
        assert body_of(request={"tools": (WEATHER,)}, tool_choice=choice)["tool_choice"] == sent

    @pytest.mark.parametrize(("strict", "sent"), [(False, None), (True, True), (["get_weather"], True), (["f"], None)])
    def test_strict_tools_are_asked_for(self, strict: Any, sent: bool | None):
        (tool,) = body_of(request={"tools": (WEATHER,)}, strict_tools=strict)["tools"]
        assert tool["function"].get("strict") is sent

    def test_the_extra_body_comes_last(self):
        body = body_of(max_tokens=5, extra_body={"top_k": 3, "max_completion_tokens": 6})
        assert (body["top_k"], body["max_completion_tokens"]) == (3, 6)

    @pytest.mark.parametrize(
        ("environment", "settings", "field"),
        [
            (OPENAI, {}, "max_completion_tokens"),
            (OLLAMA, {}, "max_tokens"),
            (OLLAMA, {"max_tokens_field": "max_completion_tokens"}, "max_completion_tokens"),
        ],
    )
    def test_the_limit_of_tokens_has_two_names(self, environment: OpenAIEnvironment, settings: Any, field: str):
        body = body_of(environment=environment, max_tokens=9, **settings)
        assert {name: body[name] for name in body if "max" in name} == {field: 9}

    def test_runs_of_a_session_share_a_cache_at_openai_and_nobody_learns_its_id(self):
        first = body_of(request={"run_id": "R1", "session_id": "ann@example.org"})["prompt_cache_key"]
        second = body_of(request={"run_id": "R2", "session_id": "ann@example.org"})["prompt_cache_key"]
        alone = body_of(request={"run_id": "R1"})["prompt_cache_key"]
        assert first == second != alone
        assert "ann" not in first
        assert len(first) <= 64

    def test_other_servers_are_sent_no_cache_key_unless_it_was_set(self):
        given = {"run_id": "R1", "session_id": "s"}
        assert "prompt_cache_key" not in body_of(environment=OLLAMA, request=given)
        assert body_of(environment=OLLAMA, request=given, prompt_cache_key="k")["prompt_cache_key"] == "k"

    @pytest.mark.parametrize("extra", [{}, {"description": "The answer"}])
    def test_a_structured_answer_is_asked_for_by_its_schema(self, extra: Any):
        schema = SCHEMA | {"additionalProperties": False} | extra
        output = OutputFormat("Weather", schema)
        format = {"name": "Weather", "schema": schema, "strict": True}
        for environment in (OPENAI, OLLAMA):
            body = body_of(environment=environment, request={"output": output, "tools": (WEATHER,)})
            assert body["response_format"] == {"type": "json_schema", "json_schema": format}

    def test_a_schema_that_is_not_of_the_strict_kind_is_not_called_so(self):
        body = body_of(request={"output": OutputFormat("list[City, int]", SCHEMA)})
        assert body["response_format"]["json_schema"] == {"name": "list_City__int_", "schema": SCHEMA}

    def test_a_response_format_that_was_set_wins(self):
        asked: Any = {"type": "json_object"}
        assert body_of(request={"output": OutputFormat("a", SCHEMA)}, response_format=asked)["response_format"] == asked

    def test_usage_can_be_left_out_for_servers_that_do_not_know_it(self):
        assert "stream_options" not in body_of(include_usage=False)


class TestMessages:
    @pytest.mark.parametrize(
        ("environment", "settings", "role"),
        [
            (OPENAI, {}, "developer"),
            (OPENAI, {"system_role": "system"}, "system"),
            (OLLAMA, {}, "system"),
            (OLLAMA, {"system_role": "developer"}, "developer"),
        ],
    )
    def test_instructions_come_first(self, environment: OpenAIEnvironment, settings: Any, role: str):
        body = body_of(environment=environment, request={"instructions": "Be brief."}, **settings)
        assert body["messages"][0] == {"role": role, "content": "Be brief."}

    def test_calls_and_results_pair_by_the_servers_ids(self):
        _, reply, first, second = body_of(user_message("Hi"), calls(*TWO), results(*TWO))["messages"]
        assert reply["content"] is None
        assert [call["id"] for call in reply["tool_calls"]] == ["call_1", "call_2"]
        assert json.loads(reply["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
        assert (first, second["tool_call_id"]) == (
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            "call_2",
        )

    @pytest.mark.parametrize(
        "ids",
        [
            (("R.1.0", None), ("R.1.1", None)),
            (("R.1.0", "same"), ("R.1.1", "same")),
            (("R.1.0", "chatcmpl-tool-0123456789abcdef0123456789abcdef"), ("R.1.1", "b")),
        ],
        ids=["missing", "repeated", "too long"],
    )
    def test_ids_are_unique_in_a_request_and_short_enough(self, ids: Any):
        later = tuple((own.replace("R.1", "R.2"), theirs) for own, theirs in ids)
        messages = body_of(user_message("Hi"), calls(*ids), results(*ids), calls(*later), results(*later))["messages"]
        made = [call["id"] for message in messages for call in message.get("tool_calls", ())]
        answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
        assert made == answered
        assert len(set(made)) == 4
        assert all(len(call_id) <= 40 for call_id in made)

    def test_other_servers_get_their_own_ids_back_however_long(self):
        """Some put a signature into them."""
        ids = (("R.1.0", f"call_{'x' * 900}"),)
        _, reply, result = body_of(user_message("Hi"), calls(*ids), results(*ids), environment=OLLAMA)["messages"]
        assert reply["tool_calls"][0]["id"] == result["tool_call_id"] == ids[0][1]

    def test_results_in_another_order_find_their_calls(self):
        messages = body_of(user_message("Hi"), calls(*TWO), results(*reversed(TWO)))["messages"]
        assert [message["tool_call_id"] for message in messages[2:]] == ["call_2", "call_1"]

    @pytest.mark.parametrize(
        ("outcome", "content"), [("ok", "x"), ("error", "Error: x"), ("unknown", "x"), ("cancelled", "x")]
    )
    def test_a_failed_call_says_so_in_its_text(self, outcome: str, content: str):
        messages = body_of(user_message("Hi"), calls(*ONE), results(*ONE, outcome=outcome, content="x"))["messages"]
        assert messages[-1]["content"] == content

    def test_notes_are_of_the_system_at_openai(self):
        messages = body_of(user_message("Hi"), note_message("Go on.", NoteKind.PROVIDER_ERROR))["messages"]
        assert messages[-1] == {"role": "developer", "content": "Go on."}

    def test_notes_are_the_users_elsewhere_and_roles_alternate(self):
        """Templates of open models take a system message at the beginning only, and no two of the user in a row."""
        messages = body_of(
            user_message("Hi"),
            note_message("One.", NoteKind.PROVIDER_ERROR),
            note_message("Two.", NoteKind.PROVIDER_ERROR),
            environment=OLLAMA,
        )["messages"]
        assert messages == [{"role": "user", "content": "Hi\n\nOne.\n\nTwo."}]

    def test_a_note_after_a_file_joins_its_message(self):
        messages = body_of(
            asks(stored(PNG, "image/png")), note_message("Go on.", NoteKind.PROVIDER_ERROR), environment=OLLAMA
        )["messages"]
        assert [part["type"] for part in messages[0]["content"]] == ["image_url", "text"]
        assert len(messages) == 1

    def test_the_role_of_notes_can_be_set(self):
        messages = body_of(
            user_message("Hi"), note_message("Go on.", NoteKind.REFUSED), environment=OLLAMA, note_role="system"
        )["messages"]
        assert messages[-1]["role"] == "system"

    def test_a_reply_that_says_nothing_is_left_out(self):
        empty = Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="hm"),), stop_reason=StopReason.CANCELLED)
        assert [m["content"] for m in body_of(user_message("Hi"), empty, user_message("?"))["messages"]] == ["Hi\n\n?"]

    def test_reasoning_is_not_sent_back(self):
        for environment in (OPENAI, OLLAMA):
            sent = json.dumps(body_of(user_message("Hi"), calls(*ONE, reasoning="hm"), environment=environment))
            assert "hm" not in sent

    def test_openai_is_never_sent_reasoning(self):
        sent = json.dumps(body_of(user_message("Hi"), calls(*ONE, reasoning="hm"), send_reasoning="reasoning_content"))
        assert "hm" not in sent

    @pytest.mark.parametrize(
        ("base", "settings", "field"),
        [
            ("https://api.deepseek.com", {}, "reasoning_content"),
            ("http://127.0.0.1:8000/v1", {"send_reasoning": "reasoning"}, "reasoning"),
        ],
    )
    def test_where_it_is_wanted_reasoning_goes_back_with_calls_of_this_run(self, base: str, settings: Any, field: str):
        environment = OpenAIEnvironment(base_url=base)
        messages = body_of(
            user_message("Hi"),
            calls(*ONE, reasoning="old"),
            results(*ONE),
            user_message("And?"),
            calls(("S.1.0", "call_9"), reasoning="new"),
            environment=environment,
            request={"history_length": 3},
            **settings,
        )["messages"]
        assert [message.get(field) for message in messages if message["role"] == "assistant"] == [None, "new"]


class TestFiles:
    def content(self, *parts: Any) -> Any:
        return body_of(asks(*parts))["messages"][0]["content"]

    def test_a_message_without_files_is_plain_text(self):
        assert self.content("Hello ", "world") == "Hello world"

    def test_an_image_travels_as_data(self):
        text, image = self.content("What is this?", stored(PNG, "image/png"))
        assert text == {"type": "text", "text": "What is this?"}
        scheme, data = image["image_url"]["url"].split(",")
        assert (image["type"], scheme, base64.b64decode(data)) == ("image_url", "data:image/png;base64", PNG)

    def test_an_image_by_url_is_fetched_by_the_server(self):
        (image,) = self.content(FilePart(url="https://example.org/a.png", media_type="image/png"))
        assert image == {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}

    @pytest.mark.parametrize(("name", "sent"), [("a.pdf", "a.pdf"), (None, "file.pdf")])
    def test_a_pdf_travels_with_its_name(self, name: str | None, sent: str):
        (file,) = self.content(stored(PDF, "application/pdf", name))
        assert file["file"]["filename"] == sent
        assert base64.b64decode(file["file"]["file_data"].removeprefix("data:application/pdf;base64,")) == PDF

    @pytest.mark.parametrize("media_type", ["text/plain", "text/csv", "application/json"])
    def test_text_is_written_into_the_message(self, media_type: str):
        (part,) = self.content(stored(TEXT, media_type, "hi.txt"))
        assert part == {"type": "text", "text": f"hi.txt ({media_type}):\n\nGrüße"}

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            (FilePart(url="https://example.org/a.pdf", media_type="application/pdf"), "by URL it takes images only"),
            (FilePart(url="https://example.org/a.txt", media_type="text/plain", name="a.txt"), "cannot take a.txt"),
            (stored(b"missing", "image/png"), "its content is not there"),
            (stored(PNG, "audio/wav", "a.wav"), r"cannot take a.wav \(audio/wav\): it takes image/"),
        ],
    )
    def test_a_file_without_a_form_on_this_wire_is_refused(self, file: FilePart, words: str):
        with pytest.raises(ProviderError, match=words) as caught:
            self.content(file)
        assert not caught.value.retryable
