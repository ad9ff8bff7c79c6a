"""The body of a Chat Completions request: messages, files, tools and settings in the words of the wire. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.messages import Origin, ReasoningPart, Role
from agentq.providers._call_ids import CallIds
from agentq.providers._chat_details import detail_of
from agentq.providers._files import (
    as_text,
    content_of,
    content_parts,
    data_url,
    is_text,
    joined,
    no_form,
    returned_apart,
)
from agentq.providers._openai_server import cache_key
from agentq.providers._strict_schema import is_strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.messages import FilePart, Message, ToolCallPart
    from agentq.providers._chat_settings import ChatSettings
    from agentq.providers._files import Content
    from agentq.providers._openai_server import Server
    from agentq.providers._vendors import Dialect
    from agentq.providers.base import ModelRequest, OutputFormat
    from agentq.tools.spec import ToolSpec

# What a message of the user may hold. Text is written into the message: the wire has no form for it.
MEDIA_TYPES = ("image/*", "application/pdf", "text/*", "application/json")

_SENT_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "response_format",
)
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def request_body(request: ModelRequest, settings: ChatSettings, server: Server, *, provider: str) -> dict[str, Any]:
    """The body to send as JSON. Raises `ProviderError`, not retryable, for a file that has no form on this wire."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _Transcript(request, settings, server, provider).messages(),
        "stream": True,
    }
    dialect = server.dialect
    if dialect.asks_for_usage if settings.include_usage is None else settings.include_usage:
        body["stream_options"] = {"include_usage": True}
    for name in _SENT_AS_THEY_ARE:
        if (value := getattr(settings, name)) is not None:
            body[name] = value
    if settings.seed is not None:
        body[dialect.seed_field] = settings.seed
    if settings.max_tokens is not None:
        body[settings.max_tokens_field or dialect.max_tokens_field] = settings.max_tokens
    if request.output is not None and settings.response_format is None and takes_schema(dialect, request):
        body["response_format"] = _response_format(request.output)
    if request.tools:
        body["tools"] = [_tool(spec, is_strict=settings.is_strict(spec.name)) for spec in request.tools]
        if settings.tool_choice is not None:
            body["tool_choice"] = _tool_choice(settings.tool_choice)
        if settings.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = settings.parallel_tool_calls
    if shared := settings.prompt_cache_key or (cache_key(request) if dialect.has_cache_key else None):
        body["prompt_cache_key"] = shared
    return body | settings.extra_body


def takes_schema(dialect: Dialect, request: ModelRequest) -> bool:
    """Whether the server is told what the answer must be. The loop checks the answer in any case."""
    return dialect.json_schema == "always" or (dialect.json_schema == "without tools" and not request.tools)


def _response_format(output: OutputFormat) -> dict[str, Any]:
    name = _NOT_IN_A_NAME.sub("_", output.name)[:64] or "answer"
    asked: dict[str, Any] = {"name": name, "schema": dict(output.schema)}
    if is_strict(output.schema):
        asked["strict"] = True
    return {"type": "json_schema", "json_schema": asked}


def _tool(spec: ToolSpec, *, is_strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": spec.name, "parameters": spec.parameters}
    if spec.description:
        function["description"] = spec.description
    if is_strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    """One of the words of the wire, or the name of a tool that must be called."""
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        return {"type": "function", "function": {"name": choice}}
    return choice


class _Transcript:
    """The messages of one request, and the ids that its calls have on the wire."""

    def __init__(self, request: ModelRequest, settings: ChatSettings, server: Server, provider: str) -> None:
        self._request = request
        self._provider = provider
        dialect = server.dialect
        self._dialect = dialect
        self._origin = Origin(api=server.chat_api, model=request.model)
        self._system_role = settings.system_role or dialect.system_role
        self._note_role = settings.note_role or ("user" if dialect.note_role == "user" else self._system_role)
        fields = (settings.send_reasoning,) if settings.send_reasoning else dialect.reasoning_fields
        self._reasoning_fields = () if server.is_openai else fields
        self._ids = CallIds(re.compile(dialect.call_ids))
        self._wire: list[dict[str, Any]] = []

    def messages(self) -> list[dict[str, Any]]:
        if self._request.instructions:
            self._wire.append({"role": self._system_role, "content": self._request.instructions})
        for index, message in enumerate(self._request.messages):
            match message.role:
                case Role.USER:
                    self._add_user(content_parts(message, _text, self._file))
                case Role.SYSTEM if self._note_role == "user":
                    self._add_user(message.text)
                case Role.SYSTEM:
                    self._wire.append({"role": self._note_role, "content": message.text})
                case Role.ASSISTANT:
                    self._add_reply(message, is_of_this_run=index >= self._request.history_length)
                case Role.TOOL:
                    self._add_results(message)
        return self._wire

    def _add_user(self, content: Content) -> None:
        """Add what the user says, to the message before where that is the user's too: templates ask for it."""
        last = self._wire[-1] if self._wire else None
        if last is not None and last["role"] == "tool" and self._dialect.parts_tools_from_users:
            self._wire.append({"role": "assistant", "content": "OK."})
        if last is None or last["role"] != "user":
            self._wire.append({"role": "user", "content": content})
        else:
            last["content"] = joined(last["content"], content, _text)

    def _add_reply(self, message: Message, *, is_of_this_run: bool) -> None:
        calls = message.tool_calls
        if not calls and not message.text:
            return  # nothing but reasoning, or nothing at all: servers refuse an empty reply
        is_own = message.origin == self._origin
        reply: dict[str, Any] = {"role": "assistant", "content": message.text or None}
        if calls:
            reply["tool_calls"] = [self._call(call, (call.native if is_own else None) or {}) for call in calls]
        reasoning = [part for part in message.parts if isinstance(part, ReasoningPart)]
        if calls and is_of_this_run and (is_own or message.origin is None):
            text = "".join(part.text for part in reasoning)
            reply |= dict.fromkeys(self._reasoning_fields, text) if text else {}
        if is_own and (details := [detail for part in reasoning if (detail := detail_of(part)) is not None]):
            reply["reasoning_details"] = details
        self._wire.append(reply)

    def _call(self, call: ToolCallPart, native: Mapping[str, Any]) -> dict[str, Any]:
        # The text that the model wrote, to the letter: a cache of the prompt ends where they differ. What was no JSON
        # object goes back as an empty one, because the chat templates of many servers parse it.
        arguments = native.get("arguments") if call.arguments_error is None else None
        wire: dict[str, Any] = {
            "id": self._ids.of(call),
            "type": "function",
            "function": {"name": call.name, "arguments": arguments or _json.dumps(call.arguments).decode()},
        }
        if "extra_content" in native:
            wire["extra_content"] = native["extra_content"]
        return wire

    def _add_results(self, message: Message) -> None:
        """Results are text on this wire: files follow as words of the user, when all calls have their result."""
        apart: list[dict[str, Any]] = []
        for result in message.tool_results:
            call_id = self._ids.of(result)
            content, whose, files = returned_apart(result, call_id, self._request, self._file)
            apart += [_text(whose), *files] if files else []
            # The wire knows no failed result. The others explain themselves.
            content = f"Error: {content}" if result.outcome == "error" else content
            self._wire.append({"role": "tool", "tool_call_id": call_id, "content": content})
        if apart:
            self._add_user(apart)

    # --- files

    def _file(self, file: FilePart) -> dict[str, Any]:
        if file.digest is None:
            if file.media_type.startswith("image/"):
                return {"type": "image_url", "image_url": {"url": file.url}}
            raise no_form(file, self._provider, "by URL it takes images only; attach the file itself")
        content = content_of(file, self._request, self._provider)
        if file.media_type.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": data_url(file, content)}}
        if file.media_type == "application/pdf":
            name = file.name or "file.pdf"
            return {"type": "file", "file": {"filename": name, "file_data": data_url(file, content)}}
        if is_text(file):
            return _text(as_text(file, content))
        raise no_form(file, self._provider, f"it takes {', '.join(MEDIA_TYPES)}")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
