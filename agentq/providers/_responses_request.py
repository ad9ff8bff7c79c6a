"""The body of a request to OpenAI's Responses: messages, files, tools and settings in the words of the wire. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq.messages import Role, neutral
from agentq.providers._call_ids import CallIds
from agentq.providers._files import (
    as_text,
    content_of,
    content_parts,
    data_url,
    is_text,
    joined,
    no_form,
    returned,
    returned_apart,
)
from agentq.providers._openai_server import cache_key
from agentq.providers._responses_items import items_of, origin_of, plain_items
from agentq.providers._strict_schema import is_strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.messages import FilePart, Message
    from agentq.providers._files import Content
    from agentq.providers._openai_server import Server
    from agentq.providers._responses_settings import ResponsesSettings
    from agentq.providers.base import ModelRequest, OutputFormat
    from agentq.tools.spec import ToolSpec

# What a message of the user may hold. Text is written into the message.
MEDIA_TYPES = ("image/*", "application/pdf", "text/*", "application/json")

_SENT_AS_THEY_ARE = ("temperature", "top_p", "service_tier", "truncation")
# What OpenAI takes as the id of a call; servers that made one for another API may have made it otherwise.
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_NAME_CHARS = 64


def request_body(
    request: ModelRequest, settings: ResponsesSettings, server: Server, *, provider: str
) -> dict[str, Any]:
    """The body to send as JSON. Raises `ProviderError`, not retryable, for a file that has no form on this wire."""
    is_encrypted = settings.has_encrypted_reasoning(request.model)
    body: dict[str, Any] = {
        "model": request.model,
        "input": _Transcript(request, server, provider, is_encrypted=is_encrypted).items(),
        "stream": True,
        "store": False,
    }
    if request.instructions:
        body["instructions"] = request.instructions
    if is_encrypted:
        body["include"] = ["reasoning.encrypted_content"]
    for name in _SENT_AS_THEY_ARE:
        if (value := getattr(settings, name)) is not None:
            body[name] = value
    if settings.max_tokens is not None:
        body["max_output_tokens"] = settings.max_tokens
    if reasoning := _given(effort=settings.reasoning_effort, summary=settings.reasoning_summary):
        body["reasoning"] = reasoning
    if text := _given(verbosity=settings.verbosity, format=_format(request.output)):
        body["text"] = text
    if request.tools:
        body["tools"] = [_tool(spec, is_strict=settings.is_strict(spec.name)) for spec in request.tools]
        if settings.tool_choice is not None:
            body["tool_choice"] = _tool_choice(settings.tool_choice)
        if settings.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = settings.parallel_tool_calls
    if shared := settings.prompt_cache_key or (cache_key(request) if server.is_openai else None):
        body["prompt_cache_key"] = shared
    return body | settings.extra_body


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _format(output: OutputFormat | None) -> dict[str, Any] | None:
    """The form of the answer. A schema beyond the strict subset is a wish that the model may miss."""
    if output is None:
        return None
    name = _NOT_IN_A_NAME.sub("_", output.name)[:_MAX_NAME_CHARS].strip("_") or "answer"
    return {"type": "json_schema", "name": name, "schema": output.schema, "strict": is_strict(output.schema)}


def _tool(spec: ToolSpec, *, is_strict: bool) -> dict[str, Any]:
    # Without `strict` the server would take its own strict form of the schema.
    tool = {"type": "function", "name": spec.name, "parameters": spec.parameters, "strict": is_strict}
    return tool | ({"description": spec.description} if spec.description else {})


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    """One of the words of the wire, or the name of a tool that must be called."""
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        return {"type": "function", "name": choice}
    return choice


class _Transcript:
    """The messages of one request, and the ids that its calls have on the wire."""

    def __init__(self, request: ModelRequest, server: Server, provider: str, *, is_encrypted: bool) -> None:
        self._request = request
        self._provider = provider
        self._origin = origin_of(request.model)
        self._is_openai = server.is_openai
        self._is_encrypted = is_encrypted
        self._ids = CallIds(_CALL_ID)
        self._wire: list[dict[str, Any]] = []

    def items(self) -> list[dict[str, Any]]:
        for message in self._request.messages:
            match message.role:
                case Role.USER:
                    self._add_user(content_parts(message, _text, self._file))
                case Role.SYSTEM if self._is_openai:
                    self._wire.append(_message("developer", message.text))
                case Role.SYSTEM:
                    # Other servers put open models behind this API; their templates take no later word of the system.
                    self._add_user(message.text)
                case Role.ASSISTANT if message.origin == self._origin:
                    self._wire.extend(
                        items_of(message, self._ids.of, is_exact=self._is_openai, is_encrypted=self._is_encrypted)
                    )
                case Role.ASSISTANT:
                    self._wire.extend(plain_items(neutral(message), self._ids.of))
                case Role.TOOL:
                    self._add_results(message)
        return self._wire

    def _add_user(self, content: Content) -> None:
        """Add what the user says, to the message before where that is the user's too: templates ask for it."""
        last = self._wire[-1] if self._wire else {}
        if last.get("role") != "user":
            self._wire.append(_message("user", content))
        else:
            last["content"] = joined(last["content"], content, _text)

    def _add_results(self, message: Message) -> None:
        apart: list[dict[str, Any]] = []
        for result in message.tool_results:
            call_id = self._ids.of(result)
            output: Content
            if result.files and self._is_openai:
                output = returned(result, self._request, _text, self._file)
            else:
                # Other servers take text there.
                output, whose, files = returned_apart(result, call_id, self._request, self._file)
                apart += [_text(whose), *files] if files else []
                # The wire knows no failed result. The others explain themselves.
                output = f"Error: {output}" if result.outcome == "error" else output
            self._wire.append({"type": "function_call_output", "call_id": call_id, "output": output})
        if apart:
            self._add_user(apart)

    # --- files

    def _file(self, file: FilePart) -> dict[str, Any]:
        is_image = file.media_type.startswith("image/")
        if not (is_image or file.media_type == "application/pdf" or is_text(file)):
            raise no_form(file, self._provider, f"it takes {', '.join(MEDIA_TYPES)}")
        if file.digest is None:
            return _image(file.url) if is_image else {"type": "input_file", "file_url": file.url}
        content = content_of(file, self._request, self._provider)
        if is_image:
            return _image(data_url(file, content))
        if is_text(file):
            return _text(as_text(file, content))
        return {"type": "input_file", "filename": file.name or "file.pdf", "file_data": data_url(file, content)}


def _message(role: str, content: Content) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _image(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}
