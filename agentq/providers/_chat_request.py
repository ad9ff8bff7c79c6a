"""The body of a Chat Completions request: messages, files, tools and settings in the words of the wire. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.messages import (
    FilePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from agentq.providers._files import as_text, content_of, data_url, is_text, no_form
from agentq.providers._openai_server import cache_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers._chat_settings import ChatSettings
    from agentq.providers._openai_server import Server
    from agentq.providers.base import ModelRequest
    from agentq.tools.spec import ToolSpec

# What a message of the user may hold. Text is written into the message: the wire has no form for it.
MEDIA_TYPES = ("image/*", "application/pdf", "text/*", "application/json")

_SENT_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "response_format",
)
# OpenAI refuses ids beyond this, and some servers make longer ones.
_MAX_ID_CHARS = 40


def request_body(request: ModelRequest, settings: ChatSettings, server: Server, *, provider: str) -> dict[str, Any]:
    """The body to send as JSON. Raises `ProviderError`, not retryable, for a file that has no form on this wire."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _Transcript(request, settings, server, provider).messages(),
        "stream": True,
    }
    if settings.include_usage:
        body["stream_options"] = {"include_usage": True}
    for name in _SENT_AS_THEY_ARE:
        if (value := getattr(settings, name)) is not None:
            body[name] = value
    if settings.max_tokens is not None:
        body[settings.max_tokens_field or _max_tokens_field(server)] = settings.max_tokens
    if request.tools:
        body["tools"] = [_tool(spec, is_strict=settings.is_strict(spec.name)) for spec in request.tools]
        if settings.tool_choice is not None:
            body["tool_choice"] = _tool_choice(settings.tool_choice)
        if settings.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = settings.parallel_tool_calls
    if shared := settings.prompt_cache_key or (cache_key(request) if server.is_openai else None):
        body["prompt_cache_key"] = shared
    return body | settings.extra_body


def _max_tokens_field(server: Server) -> str:
    # OpenAI's reasoning models refuse the old name, most other servers do not know the new one.
    return "max_completion_tokens" if server.is_openai else "max_tokens"


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
        self._system_role = settings.system_role or ("developer" if server.is_openai else "system")
        # The chat templates of many open models take a system message at the beginning only.
        self._note_role = settings.note_role or (self._system_role if server.is_openai else "user")
        self._reasoning_field = settings.send_reasoning or ("reasoning_content" if server.is_deepseek else None)
        if server.is_openai:
            self._reasoning_field = None
        self._ids: dict[str, str] = {}  # by our call id
        self._taken: set[str] = set()
        self._wire: list[dict[str, Any]] = []

    def messages(self) -> list[dict[str, Any]]:
        if self._request.instructions:
            self._wire.append({"role": self._system_role, "content": self._request.instructions})
        for index, message in enumerate(self._request.messages):
            match message.role:
                case Role.USER:
                    self._add_user(self._content(message))
                case Role.SYSTEM if self._note_role == "user":
                    self._add_user(message.text)
                case Role.SYSTEM:
                    self._wire.append({"role": self._note_role, "content": message.text})
                case Role.ASSISTANT:
                    self._add_reply(message, is_of_this_run=index >= self._request.history_length)
                case Role.TOOL:
                    self._wire.extend(self._result(result) for result in message.tool_results)
        return self._wire

    def _add_user(self, content: str | list[dict[str, Any]]) -> None:
        """Add what the user says, to the message before where that is the user's too: templates ask for it."""
        last = self._wire[-1] if self._wire else None
        if last is None or last["role"] != "user":
            self._wire.append({"role": "user", "content": content})
        elif isinstance(last["content"], str) and isinstance(content, str):
            last["content"] = f"{last['content']}\n\n{content}"
        else:
            last["content"] = [*_as_parts(last["content"]), *_as_parts(content)]

    def _add_reply(self, message: Message, *, is_of_this_run: bool) -> None:
        calls = message.tool_calls
        if not calls and not message.text:
            return  # nothing but reasoning, or nothing at all: servers refuse an empty reply
        reply: dict[str, Any] = {"role": "assistant", "content": message.text or None}
        if calls:
            reply["tool_calls"] = [self._call(call) for call in calls]
            reasoning = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
            if self._reasoning_field and reasoning and is_of_this_run:
                reply[self._reasoning_field] = reasoning
        self._wire.append(reply)

    def _call(self, call: ToolCallPart) -> dict[str, Any]:
        arguments = _json.dumps(call.arguments).decode()
        return {
            "id": self._id_of(call.call_id, call.provider_call_id),
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }

    def _result(self, result: ToolResultPart) -> dict[str, Any]:
        # The wire knows no failed result. The others explain themselves.
        content = f"Error: {result.content}" if result.outcome == "error" else result.content
        return {
            "role": "tool",
            "tool_call_id": self._id_of(result.call_id, result.provider_call_id),
            "content": content,
        }

    def _id_of(self, call_id: str, provider_call_id: str | None) -> str:
        """The server's own id of a call, or one made of ours where it is missing, too long or taken by another call."""
        if call_id not in self._ids:
            wire = provider_call_id or ""
            if not wire or len(wire) > _MAX_ID_CHARS or wire in self._taken:
                wire = call_id.replace(".", "-")
            self._taken.add(wire)
            self._ids[call_id] = wire
        return self._ids[call_id]

    # --- files

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        """A plain text where that will do: every server takes it."""
        if not any(isinstance(part, FilePart) for part in message.parts):
            return message.text
        parts: list[dict[str, Any]] = []
        for part in message.parts:
            match part:
                case TextPart() if part.text:
                    parts.append(_text(part.text))
                case FilePart():
                    parts.append(self._file(part))
        return parts

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


def _as_parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_text(content)] if isinstance(content, str) else content
