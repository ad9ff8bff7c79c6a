"""Files that tools returned, on each wire: where the API takes them, and in words where it does not."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from agentq.messages import (
    FilePart,
    Message,
    NoteKind,
    Role,
    ToolCallPart,
    ToolResultPart,
    decode_message,
    encode_message,
    note_message,
    results_message,
    user_message,
)
from agentq.providers import (
    _anthropic_request,
    _anthropic_settings,
    _chat_request,
    _chat_settings,
    _google_request,
    _google_settings,
    _responses_request,
    _responses_settings,
)
from agentq.providers._vendors import VENDORS
from agentq.providers.anthropic import Anthropic
from agentq.providers.base import ModelRequest, result_media_types_of
from agentq.providers.google import Google
from agentq.providers.openai import OpenAI
from agentq.providers.openai_chat import OpenAIChat
from agentq.settings import OpenAIEnvironment
from tests.providers.anthropic_parts import ENVIRONMENT, check_body
from tests.providers.strict import check
from tests.providers.strict_google import check_google

if TYPE_CHECKING:
    from collections.abc import Callable

PNG, PDF, WAV, CSV = b"\x89PNG\r\n\xff", b"%PDF-1.7 \xff", b"RIFF\xfb\xff", "Stück,1\n".encode()
FILES = {hashlib.sha256(content).hexdigest(): content for content in (PNG, PDF, WAV, CSV)}
OPENAI = OpenAIEnvironment(api_key="sk-test")
OTHER = OpenAIEnvironment(base_url="http://127.0.0.1:8000/v1")


def stored(content: bytes, media_type: str, name: str | None = None) -> FilePart:
    return FilePart(
        url=f"agentq:{hashlib.sha256(content).hexdigest()}", media_type=media_type, name=name, size=len(content)
    )


IMAGE, PAPER = stored(PNG, "image/png", "a.png"), stored(PDF, "application/pdf", "b.pdf")
SOUND, TABLE = stored(WAV, "audio/wav", "c.wav"), stored(CSV, "text/csv", "d.csv")
LINKED = FilePart(url="https://x.org/e.png", media_type="image/png")
LINKED_TABLE = FilePart(url="https://x.org/f.csv", media_type="text/csv")
GONE = FilePart(url="agentq:" + "0" * 64, media_type="image/png", name="g.png", size=2_000)
TABLE_TEXT = "d.csv (text/csv):\n\nStück,1\n"
IMAGE_LINE, PAPER_LINE = "[image/png a.png, 7 bytes: it follows]", "[application/pdf b.pdf, 10 bytes: it follows]"
GONE_LINE = "[image/png g.png, 2 KB: its content is gone]"
SOUND_LINE = "[audio/wav c.wav, 6 bytes: this model does not take it]"
LINKED_TABLE_LINE = "[text/csv https://x.org/f.csv: this model does not take it]"


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def calls(*names: str) -> Message:
    return Message(
        role=Role.ASSISTANT,
        parts=tuple(
            ToolCallPart(call_id=f"R.1.{index}", name=name, provider_call_id=f"c{index}")
            for index, name in enumerate(names)
        ),
    )


def result(index: int, name: str, content: str, *files: FilePart) -> ToolResultPart:
    return ToolResultPart(
        call_id=f"R.1.{index}", name=name, content=content, files=files, provider_call_id=f"c{index}", data={"x": 1}
    )


def draws(content: str, *files: FilePart) -> tuple[Message, ...]:
    """One call and its result."""
    return user_message("Draw."), calls("draw"), results_message([result(0, "draw", content, *files)])


def request_of(messages: tuple[Message, ...], model: str) -> ModelRequest:
    return ModelRequest(model, messages, files=FILES)


def anthropic(*messages: Message) -> dict[str, Any]:
    settings = _anthropic_settings.read_settings("anthropic", {})
    server = _anthropic_settings.server_of("anthropic", settings, ENVIRONMENT)
    request = request_of(messages, "claude-opus-5-5")
    body: dict[str, Any] = json.loads(
        json.dumps(_anthropic_request.request_body(request, settings, server, provider="anthropic"))
    )
    check_body(body)
    return body


def responses(*messages: Message, environment: OpenAIEnvironment = OPENAI) -> dict[str, Any]:
    settings = _responses_settings.read_settings("openai", {})
    server = _responses_settings.server_of(settings, environment)
    request = request_of(messages, "gpt-x")
    body: dict[str, Any] = json.loads(
        json.dumps(_responses_request.request_body(request, settings, server, provider="openai"))
    )
    check(ResponseCreateParamsStreaming, body)
    return body


def other_responses(*messages: Message) -> dict[str, Any]:
    return responses(*messages, environment=OTHER)


def chat(*messages: Message, environment: OpenAIEnvironment = OPENAI) -> dict[str, Any]:
    settings = _chat_settings.read_settings("openai-chat", {})
    server = _chat_settings.server_of(settings, environment)
    return _chat_body(messages, settings, server)


def mistral(*messages: Message) -> dict[str, Any]:
    settings = _chat_settings.read_settings("mistral", {"api_key": "k"})
    return _chat_body(messages, settings, _chat_settings.vendor_server_of(VENDORS["mistral"], settings))


def _chat_body(messages: tuple[Message, ...], settings: Any, server: Any) -> dict[str, Any]:
    request = request_of(messages, "gpt-x")
    body: dict[str, Any] = json.loads(
        json.dumps(_chat_request.request_body(request, settings, server, provider="openai-chat"))
    )
    check(CompletionCreateParamsStreaming, body)
    return body


def google(*messages: Message, model: str = "gemini-3-flash") -> dict[str, Any]:
    settings = _google_settings.read_settings("google", {})
    request = request_of(messages, model)
    body: dict[str, Any] = json.loads(json.dumps(_google_request.request_body(request, settings, provider="google")))
    check_google(body)
    return body


def older_google(*messages: Message) -> dict[str, Any]:
    return google(*messages, model="models/gemini-2.5-pro")


WIRES: dict[str, Callable[..., dict[str, Any]]] = {
    "anthropic": anthropic,
    "responses": responses,
    "responses of others": other_responses,
    "chat": chat,
    "mistral": mistral,
    "google": google,
    "google 2.5": older_google,
}


def test_anthropic_takes_them_in_the_result():
    messages = anthropic(*draws("Here.", IMAGE, PAPER, TABLE, LINKED, GONE))["messages"]
    (block,) = messages[2]["content"]
    assert block["content"] == [
        {"type": "text", "text": "Here."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": in_base64(PNG)}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": in_base64(PDF)},
            "title": "b.pdf",
        },
        {"type": "text", "text": TABLE_TEXT},
        {"type": "image", "source": {"type": "url", "url": "https://x.org/e.png"}},
        {"type": "text", "text": GONE_LINE},
    ]
    (only,) = anthropic(*draws("", IMAGE))["messages"][2]["content"]
    assert [part["type"] for part in only["content"]] == ["image"]


def test_openai_takes_them_in_the_output():
    sent = responses(*draws("Here.", IMAGE, PAPER, TABLE, LINKED, LINKED_TABLE, GONE))["input"]
    assert [item["type"] for item in sent] == ["message", "function_call", "function_call_output"]
    assert sent[2]["output"] == [
        {"type": "input_text", "text": "Here."},
        {"type": "input_image", "image_url": f"data:image/png;base64,{in_base64(PNG)}", "detail": "auto"},
        {
            "type": "input_file",
            "filename": "b.pdf",
            "file_data": f"data:application/pdf;base64,{in_base64(PDF)}",
        },
        {"type": "input_text", "text": TABLE_TEXT},
        {"type": "input_image", "image_url": "https://x.org/e.png", "detail": "auto"},
        {"type": "input_file", "file_url": "https://x.org/f.csv"},
        {"type": "input_text", "text": GONE_LINE},
    ]


def test_other_servers_with_responses_get_text_and_then_the_files():
    sent = other_responses(*draws("Here.", IMAGE, TABLE, GONE), note_message("Go on.", NoteKind.TOOL_ERROR))["input"]
    assert sent[2]["output"] == f"Here.\n\n{IMAGE_LINE}\n\n{TABLE_TEXT}\n\n{GONE_LINE}"
    assert sent[3]["role"] == "user"
    assert [part.get("text") for part in sent[3]["content"]] == ["What draw returned (call c0):", None, "Go on."]
    assert len(sent) == 4


def test_chat_completions_gets_them_after_all_results_of_the_turn():
    both = results_message([result(0, "draw", "Here.", IMAGE, TABLE), result(1, "scan", "", PAPER, LINKED_TABLE)])
    sent = chat(user_message("Go."), calls("draw", "scan"), both, user_message("Thanks."))["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert sent[2]["content"] == f"Here.\n\n{IMAGE_LINE}\n\n{TABLE_TEXT}"
    assert sent[3]["content"] == f"{PAPER_LINE}\n\n{LINKED_TABLE_LINE}"
    assert sent[4]["content"] == [
        {"type": "text", "text": "What draw returned (call c0):"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{in_base64(PNG)}"}},
        {"type": "text", "text": "What scan returned (call c1):"},
        {
            "type": "file",
            "file": {"filename": "b.pdf", "file_data": f"data:application/pdf;base64,{in_base64(PDF)}"},
        },
        {"type": "text", "text": "Thanks."},
    ]


def test_a_server_that_takes_no_user_after_a_tool_gets_a_word_in_between():
    sent = mistral(*draws("Here.", IMAGE))["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]


def test_gemini_takes_some_of_them_in_the_result_and_the_others_after_it():
    contents = google(*draws("Here.", IMAGE, SOUND, PAPER, TABLE, LINKED))["contents"]
    assert contents[2]["parts"] == [
        {
            "functionResponse": {
                "id": "c0",
                "name": "draw",
                "response": {
                    "output": f"Here.\n\n[audio/wav c.wav, 6 bytes: it follows]\n\n{TABLE_TEXT}\n\n"
                    "[image/png https://x.org/e.png: it follows]"
                },
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": in_base64(PNG)}},
                    {"inlineData": {"mimeType": "application/pdf", "data": in_base64(PDF)}},
                ],
            }
        }
    ]
    assert contents[3] == {
        "role": "user",
        "parts": [
            {"text": "What draw returned (call c0):"},
            {"inlineData": {"mimeType": "audio/wav", "data": in_base64(WAV)}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/e.png"}},
        ],
    }


@pytest.mark.parametrize("model", ["gemini-2.5-pro", "models/gemini-2.0-flash", "gemini-1.5-pro", "gemma-3-27b-it"])
def test_an_older_model_of_google_gets_all_of_them_after_the_results(model: str):
    both = results_message([result(0, "draw", "Here.", IMAGE), result(1, "draw", "None.")])
    contents = google(user_message("Go."), calls("draw", "draw"), both, user_message("Thanks."), model=model)[
        "contents"
    ]
    # As many parts as there were calls: a file among them is an error there.
    assert [part["functionResponse"]["response"] for part in contents[2]["parts"]] == [
        {"output": f"Here.\n\n{IMAGE_LINE}"},
        {"output": "None."},
    ]
    assert [list(part) for part in contents[3]["parts"]] == [["text"], ["inlineData"], ["text"]]


@pytest.mark.parametrize("wire", WIRES)
def test_what_has_no_form_is_a_line_and_no_error(wire: str):
    body = WIRES[wire](*draws("Here.", stored(WAV, "application/zip", "z.zip"), GONE))
    text = json.dumps(body)
    assert "[application/zip z.zip, 6 bytes: this model does not take it]" in text
    assert GONE_LINE in text


@pytest.mark.parametrize("wire", WIRES)
def test_the_model_sees_nothing_of_data_and_a_plain_result_is_as_ever(wire: str):
    body = WIRES[wire](*draws("Here."))
    assert '"x"' not in json.dumps(body)
    plain = ToolResultPart(call_id="R.1.0", name="draw", content="Here.", provider_call_id="c0")
    assert body == WIRES[wire](*draws("Here.")[:2], results_message([plain]))


@pytest.mark.parametrize("provider", [Anthropic(), Google(), OpenAI(), OpenAIChat()], ids=lambda made: made.name)
def test_a_model_that_only_reads_says_so(provider: Any):
    assert "image/*" in result_media_types_of(provider, {}) or "image/png" in result_media_types_of(provider, {})
    assert result_media_types_of(provider, {"tool_files": False}) == ()


def parts_of(body: dict[str, Any]) -> list[Any]:
    """The transcript of a body."""
    (transcript,) = [body[name] for name in ("messages", "input", "contents") if name in body]
    return transcript  # type: ignore[no-any-return]


RESULTS = st.lists(
    st.tuples(
        st.sampled_from(["", " ", "Here."]),
        st.lists(st.sampled_from([IMAGE, PAPER, SOUND, TABLE, LINKED, LINKED_TABLE, GONE]), max_size=3),
        st.sampled_from(["ok", "error", "unknown"]),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("wire", WIRES)
@given(turns=st.lists(RESULTS, min_size=1, max_size=3))
def test_whatever_tools_return_the_body_is_the_vendors_and_the_same_out_of_the_store(wire: str, turns: list[Any]):
    messages: list[Message] = [user_message("Go.")]
    for turn, results in enumerate(turns, start=1):
        ids = [f"R.{turn}.{index}" for index in range(len(results))]
        messages.append(
            Message(role=Role.ASSISTANT, parts=tuple(ToolCallPart(call_id=each, name="draw") for each in ids))
        )
        messages.append(
            results_message(
                ToolResultPart(call_id=each, name="draw", content=content, files=tuple(files), outcome=outcome)
                for each, (content, files, outcome) in zip(ids, results, strict=True)
            )
        )
    # The check is in the wire.
    body = WIRES[wire](*messages)
    assert WIRES[wire](*(decode_message(encode_message(message)) for message in messages)) == body
    # What the model has read stays as it was, or a cache of the prompt would end there.
    before = parts_of(WIRES[wire](*messages[:-2])) if len(messages) > 3 else []
    assert parts_of(body)[: len(before)] == before
