"""What goes to Anthropic is what its own SDK would send, to the key."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
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
from agentq.providers._anthropic_request import with_blocks_dropped
from agentq.providers._anthropic_settings import AnthropicEnvironment, AnthropicSettings, read_settings, server_of
from agentq.providers.base import OutputFormat
from agentq.tools.spec import ToolSpec
from tests.helpers import ROOT
from tests.providers.anthropic_parts import ENVIRONMENT, ORIGIN, body_of, check_body

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "The weather now", SCHEMA)
PNG, PDF, TEXT = b"\x89PNG\r\n", b"%PDF-1.7", "Grüße".encode()
FILES = {hashlib.sha256(content).hexdigest(): content for content in (PNG, PDF, TEXT)}


def stored(content: bytes, media_type: str, name: str | None = None) -> FilePart:
    return FilePart(url=f"agentq:{hashlib.sha256(content).hexdigest()}", media_type=media_type, name=name)


def reply(*parts: Any, origin: Origin | None = ORIGIN) -> Message:
    return Message(role=Role.ASSISTANT, parts=parts, origin=origin, stop_reason=StopReason.TOOL_CALLS, model="claude")


def a_call(index: int, theirs: str | None = None) -> ToolCallPart:
    return ToolCallPart(
        call_id=f"RUN.1.{index}", name="get_weather", arguments={"city": "Oslo"}, provider_call_id=theirs
    )


def a_result(index: int, theirs: str | None = None, content: str = "rain", outcome: Any = "ok") -> ToolResultPart:
    return ToolResultPart(
        call_id=f"RUN.1.{index}", name="get_weather", content=content, provider_call_id=theirs, outcome=outcome
    )


class TestMessages:
    def test_the_least(self):
        assert body_of(user_message("Hi")) == {
            "model": "claude-opus-5-5",
            "max_tokens": 4096,
            "stream": True,
            "cache_control": {"type": "ephemeral"},
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        }

    def test_instructions_are_the_system(self):
        assert body_of(user_message("Hi"), more={"instructions": "Be brief."})["system"] == "Be brief."

    def test_a_beginning_that_other_requests_share_is_marked(self):
        told = {"instructions": "Be brief.\n\nAnn.\n\n12:00", "stable": (9, 15)}
        assert body_of(user_message("Hi"), more=told)["system"] == [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "\n\nAnn.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "\n\n12:00"},
        ]

    def test_marks_keep_the_time_that_the_cache_has(self):
        body = body_of(user_message("Hi"), more={"instructions": "Be brief.", "stable": (9,)}, prompt_cache="1h")
        mark = {"type": "ephemeral", "ttl": "1h"}
        assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
        assert body["cache_control"] == mark

    def test_there_are_never_more_marks_than_the_server_takes(self):
        body = body_of(user_message("Hi"), more={"instructions": "abcdef", "stable": (1, 2, 3, 4, 5)})
        assert [(block["text"], "cache_control" in block) for block in body["system"]] == [
            ("abc", True),
            ("d", True),
            ("e", True),
            ("f", False),
        ]

    def test_without_the_cache_there_are_no_marks(self):
        told = {"instructions": "Be brief.\n\n12:00", "stable": (9,)}
        assert body_of(user_message("Hi"), more=told, prompt_cache=False)["system"] == "Be brief.\n\n12:00"

    def test_blank_instructions_get_no_mark(self):
        assert body_of(user_message("Hi"), more={"instructions": " ", "stable": (1,)})["system"] == " "

    def test_the_results_of_a_reply_go_into_one_message_before_any_words(self):
        body = body_of(
            user_message("Hi"),
            reply(TextPart(text="Looking."), a_call(0, "toolu_1"), a_call(1, "toolu_2"), origin=None),
            results_message([a_result(0, "toolu_1"), a_result(1, "toolu_2", "it broke", "error")]),
            note_message("A tool failed.", NoteKind.TOOL_ERROR),
            user_message("And?"),
        )
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
        assert body["messages"][1]["content"] == [
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Oslo"}},
        ]
        assert body["messages"][2]["content"] == [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "it broke", "is_error": True},
            {"type": "text", "text": "A tool failed."},
            {"type": "text", "text": "And?"},
        ]

    @pytest.mark.parametrize("outcome", ["unknown", "cancelled", "error"])
    def test_whatever_is_no_result_is_an_error(self, outcome: str):
        body = body_of(user_message("Hi"), reply(a_call(0)), results_message([a_result(0, outcome=outcome)]))
        assert body["messages"][2]["content"][0]["is_error"] is True

    def test_an_empty_result_has_no_content(self):
        body = body_of(user_message("Hi"), reply(a_call(0)), results_message([a_result(0, content="")]))
        assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "RUN-1-0"}]

    @pytest.mark.parametrize("theirs", [None, "", "call.1", "x" * 65, "ü"])
    def test_ids_that_the_server_would_refuse_are_made_of_ours(self, theirs: str | None):
        body = body_of(user_message("Hi"), reply(a_call(0, theirs)), results_message([a_result(0, theirs)]))
        assert body["messages"][1]["content"][0]["id"] == "RUN-1-0"
        assert body["messages"][2]["content"][0]["tool_use_id"] == "RUN-1-0"

    def test_an_id_that_comes_twice_stays_with_the_first(self):
        body = body_of(
            user_message("Hi"), reply(a_call(0, "c"), a_call(1, "c")), results_message([a_result(0, "c"), a_result(1)])
        )
        assert [part["id"] for part in body["messages"][1]["content"]] == ["c", "RUN-1-1"]
        assert [part["tool_use_id"] for part in body["messages"][2]["content"]] == ["c", "RUN-1-1"]

    def test_thinking_of_others_is_left_out(self):
        foreign = reply(
            ReasoningPart(text="Hm", signature="sig"),
            ReasoningPart(native={"redacted": "xyz"}),
            TextPart(text="Yes", native={"id": "msg_1"}),
            origin=Origin(api="openai-responses", model="gpt-6-sol"),
        )
        body = body_of(user_message("Hi"), foreign, user_message("And?"))
        assert body["messages"][1]["content"] == [{"type": "text", "text": "Yes"}]

    @pytest.mark.parametrize("origin", [None, ORIGIN.model_copy(update={"model": "claude-haiku-5-5"})])
    def test_thinking_of_another_model_is_left_out(self, origin: Origin | None):
        other = reply(ReasoningPart(text="Hm", signature="sig"), TextPart(text="Yes"), origin=origin)
        assert len(body_of(user_message("Hi"), other, user_message("And?"))["messages"][1]["content"]) == 1

    def test_empty_words_are_left_out_and_a_reply_of_nothing_but_thinking_too(self):
        body = body_of(
            user_message("Hi"),
            reply(TextPart(text=" "), a_call(0)),
            results_message([a_result(0)]),
            reply(ReasoningPart(text="Hm", signature="sig")),
            user_message("And?"),
        )
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
        assert [part["type"] for part in body["messages"][1]["content"]] == ["tool_use"]


class TestFiles:
    def test_images_pdfs_and_text(self):
        parts = (
            stored(PNG, "image/png"),
            stored(PDF, "application/pdf", "a.pdf"),
            stored(TEXT, "text/plain", "note.txt"),
            FilePart(url="https://host/x.png", media_type="image/png"),
            FilePart(url="https://host/x.pdf", media_type="application/pdf"),
        )
        message = Message(role=Role.USER, parts=(*parts, TextPart(text="Compare.")))
        content = body_of(message, more={"files": FILES})["messages"][0]["content"]
        png, pdf = (base64.b64encode(each).decode() for each in (PNG, PDF))
        assert content == [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": pdf},
                "title": "a.pdf",
            },
            {"type": "text", "text": "note.txt (text/plain):\n\nGrüße"},
            {"type": "image", "source": {"type": "url", "url": "https://host/x.png"}},
            {"type": "document", "source": {"type": "url", "url": "https://host/x.pdf"}},
            {"type": "text", "text": "Compare."},
        ]

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            (stored(b"gone", "image/png", "x.png"), "x.png .*its content is not there"),
            (stored(PNG, "audio/wav", "x.wav"), "x.wav .*it takes"),
            (FilePart(url="https://host/x.wav", media_type="audio/wav"), "by URL it takes images and PDFs"),
        ],
    )
    def test_what_has_no_form_is_refused(self, file: FilePart, words: str):
        with pytest.raises(ProviderError, match=words) as raised:
            body_of(Message(role=Role.USER, parts=(file,)), more={"files": FILES})
        assert not raised.value.retryable


class TestSettings:
    def test_what_is_set_is_sent(self):
        body = body_of(
            user_message("Hi"), max_tokens=800, temperature=0.3, top_p=0.9, top_k=40, stop="END", service_tier="auto"
        )
        assert (body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) == (800, 0.3, 0.9, 40)
        assert (body["stop_sequences"], body["service_tier"]) == (["END"], "auto")

    def test_tools(self):
        tools = body_of(user_message("Hi"), more={"tools": (WEATHER,)}, strict_tools=["get_weather"])["tools"]
        assert tools == [
            {
                "name": "get_weather",
                "description": "The weather now",
                "input_schema": SCHEMA | {"additionalProperties": False},
                "strict": True,
            }
        ]

    @pytest.mark.parametrize(
        ("settings", "choice"),
        [
            ({}, None),
            ({"tool_choice": "auto"}, {"type": "auto"}),
            ({"tool_choice": "none"}, {"type": "none"}),
            ({"tool_choice": "required"}, {"type": "any"}),
            ({"tool_choice": "get_weather"}, {"type": "tool", "name": "get_weather"}),
            ({"tool_choice": {"type": "any"}}, {"type": "any"}),
            ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
            ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
            (
                {"tool_choice": "required", "parallel_tool_calls": True},
                {"type": "any", "disable_parallel_tool_use": False},
            ),
        ],
    )
    def test_the_choice_of_tools(self, settings: dict[str, Any], choice: dict[str, Any] | None):
        assert body_of(user_message("Hi"), more={"tools": (WEATHER,)}, **settings).get("tool_choice") == choice

    @pytest.mark.parametrize(
        ("settings", "thinking", "config"),
        [
            ({}, None, None),
            ({"reasoning_effort": "high"}, {"type": "adaptive"}, {"effort": "high"}),
            ({"reasoning_effort": "none"}, {"type": "disabled"}, None),
            (
                {"thinking": {"type": "enabled", "budget_tokens": 2000}},
                {"type": "enabled", "budget_tokens": 2000},
                None,
            ),
            (
                {"thinking": {"type": "adaptive", "display": "summarized"}, "reasoning_effort": "low"},
                {"type": "adaptive", "display": "summarized"},
                {"effort": "low"},
            ),
        ],
    )
    def test_thinking(self, settings: dict[str, Any], thinking: Any, config: Any):
        body = body_of(user_message("Hi"), **settings)
        assert (body.get("thinking"), body.get("output_config")) == (thinking, config)

    @pytest.mark.parametrize(
        ("cache", "sent"),
        [(None, {"type": "ephemeral"}), (True, {"type": "ephemeral"}), ("1h", {"type": "ephemeral", "ttl": "1h"})],
    )
    def test_the_cache_is_asked_for(self, cache: Any, sent: dict[str, str]):
        assert body_of(user_message("Hi"), prompt_cache=cache)["cache_control"] == sent

    def test_the_cache_can_be_left_out_and_other_servers_are_not_asked(self):
        assert "cache_control" not in body_of(user_message("Hi"), prompt_cache=False)
        assert "cache_control" not in body_of(user_message("Hi"), base_url="https://gateway/anthropic")

    def test_a_structured_answer(self):
        schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "title": "A"}
        body = body_of(user_message("Hi"), more={"output": OutputFormat("A", schema)}, reasoning_effort="low")
        assert body["output_config"] == {
            "effort": "low",
            "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}},
        }

    def test_a_schema_that_the_api_does_not_know_is_left_to_words(self):
        schema = {"type": "object", "additionalProperties": {"type": "string"}}
        assert "output_config" not in body_of(user_message("Hi"), more={"output": OutputFormat("A", schema)})

    def test_a_bound_that_the_api_refuses_stands_in_the_description(self):
        """The server refuses every request whose schema has one: For 'integer' type, minimum is not supported."""
        schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}}
        body = body_of(user_message("Hi"), more={"output": OutputFormat("A", schema)})
        sent = body["output_config"]["format"]["schema"]
        assert sent["properties"] == {"a": {"type": "integer", "description": '{"minimum":0}'}}

    def test_extra_body_comes_last(self):
        body = body_of(user_message("Hi"), extra_body={"metadata": {"user_id": "u"}})
        assert body["metadata"] == {"user_id": "u"}

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"frequency_penalty": 1.0}, "frequency_penalty"),
            ({"api_version": "latest"}, "api_version"),
            ({"betas": ["ü"]}, "betas"),
            ({"prompt_cache": "2h"}, "prompt_cache"),
            ({"temperature": 1.5}, "temperature"),
            ({"api_version": "2026-10-21", "top_p": 0.5}, "top_p"),
            ({"reasoning_effort": "minimal"}, "reasoning_effort"),
            ({"thinking": {"type": "enabled", "budget_tokens": 2000}, "tool_choice": "required"}, "tool_choice"),
            ({"extra_body": {"system": ""}}, "extra_body"),
        ],
    )
    def test_wrong_settings_are_named(self, settings: dict[str, Any], field: str):
        with pytest.raises(InvalidInput) as raised:
            read_settings("anthropic", settings)
        assert str(raised.value.field).startswith(f"model_settings.{field}")

    def test_every_setting_is_on_the_page(self):
        page = (ROOT / "docs" / "guide" / "models.md").read_text()
        assert [name for name in AnthropicSettings.model_fields if f"`{name}`" not in page] == []

    def test_blocks_are_dropped_on_request(self):
        plain = with_blocks_dropped(body_of(user_message("Hi")))
        set_up = with_blocks_dropped(body_of(user_message("Hi"), thinking={"type": "adaptive", "display": "omitted"}))
        drop = {"prefix_mismatch_behavior": "drop_block"}
        assert plain["thinking"] == {"type": "adaptive", "block_binding": drop}
        assert set_up["thinking"] == {"type": "adaptive", "display": "omitted", "block_binding": drop}
        check_body(plain, beta=True)

    def test_the_check_of_bodies_can_fail(self):
        with pytest.raises(ValidationError):
            check_body({**body_of(user_message("Hi")), "unknown": 1})


class TestServer:
    def headers(self, environment: AnthropicEnvironment = ENVIRONMENT, **settings: Any) -> dict[str, str]:
        return dict(server_of("anthropic", read_settings("anthropic", settings), environment).headers)

    def test_key_and_version(self):
        headers = self.headers(betas=["a-1", "b-2"])
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-ant-test", "2023-06-01")
        assert headers["anthropic-beta"] == "a-1,b-2"
        assert self.headers(api_version="2026-10-21")["anthropic-version"] == "2026-10-21"

    def test_a_token_is_a_bearer(self):
        headers = self.headers(AnthropicEnvironment(auth_token="tok"))
        assert headers["Authorization"] == "Bearer tok"
        assert "x-api-key" not in headers

    def test_another_server_is_not_told_the_key(self):
        assert not {"x-api-key", "Authorization"} & self.headers(base_url="https://gateway/anthropic").keys()

    @pytest.mark.parametrize("base", ["https://host", "https://host/", "https://host/v1", "https://host/v1/messages"])
    def test_however_the_address_is_copied(self, base: str):
        settings = read_settings("anthropic", {"base_url": base, "api_key": "k"})
        assert server_of("anthropic", settings, ENVIRONMENT).url == "https://host/v1/messages"

    def test_a_missing_key_is_named(self):
        with pytest.raises(InvalidInput, match="ANTHROPIC_API_KEY is not set"):
            self.headers(AnthropicEnvironment())


class TestWhatTheServerRefuses:
    def test_a_reply_that_its_token_limit_cut_does_not_end_in_thinking(self):
        parts = (TextPart(text="x"), ReasoningPart(text="hm", signature="s"))
        cut = Message(role=Role.ASSISTANT, parts=parts, origin=ORIGIN)
        sent = body_of(user_message("Hi"), cut, user_message("And?"))["messages"][1]["content"]
        assert sent == [{"type": "text", "text": "x"}]

    @pytest.mark.parametrize("kind", ["disabled", "between_tools"])
    def test_thinking_that_cannot_be_dropped_by_the_server_is_left_out(self, kind: str):
        parts = (ReasoningPart(text="hm", signature="s"), TextPart(text="x"))
        reply = Message(role=Role.ASSISTANT, parts=parts, origin=ORIGIN)
        body = with_blocks_dropped(body_of(user_message("Hi"), reply, user_message("?"), thinking={"type": kind}))
        check_body(body)
        assert [block["type"] for block in body["messages"][1]["content"]] == ["text"]

    def test_a_budget_for_thinking_comes_on_top_of_a_limit_that_nobody_set(self):
        thinking = {"type": "enabled", "budget_tokens": 8000}
        assert body_of(user_message("Hi"), thinking=thinking)["max_tokens"] == 12_096
