"""The body of a Messages request: transcript, files, tools and settings in the words of the wire. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq.messages import FilePart, Origin, ReasoningPart, Role, TextPart, ToolCallPart
from agentq.providers._anthropic_schema import closed
from agentq.providers._call_ids import CallIds
from agentq.providers._files import as_text, content_of, in_base64, is_text, no_form, returned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agentq.messages import Message, ToolResultPart
    from agentq.providers._anthropic_settings import AnthropicSettings, Server
    from agentq.providers.base import ModelRequest
    from agentq.tools.spec import ToolSpec

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MEDIA_TYPES = (*_IMAGES, "application/pdf", "text/*", "application/json")

# What a redacted thinking block holds, in the `native` of its part.
REDACTED = "redacted"

BINDING_BETA = "thinking-binding-controls-2026-08-01"
# Only these two can say what becomes of a thinking block that is bound to something else.
_HAS_BINDING = ("adaptive", "enabled")
_THINKING = ("thinking", "redacted_thinking")

_SENT_AS_THEY_ARE = ("temperature", "top_p", "top_k", "service_tier")
# The server takes four in a request, and places one by itself at the end of the transcript.
_MAX_MARKS = 3
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def request_body(
    request: ModelRequest, settings: AnthropicSettings, server: Server, *, provider: str
) -> dict[str, Any]:
    """The body to send as JSON. Raises `ProviderError`, not retryable, for a file that has no form on this wire."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": settings.token_limit,
        "stream": True,
        "messages": _Transcript(request, settings, provider).messages(),
    }
    is_cached = settings.prompt_cache or (settings.prompt_cache is None and server.is_anthropic)
    if request.instructions:
        body["system"] = _marked(request, _cache_control(settings)) if is_cached else request.instructions
    if is_cached:
        body["cache_control"] = _cache_control(settings)
    for name in _SENT_AS_THEY_ARE:
        if (value := getattr(settings, name)) is not None:
            body[name] = value
    if settings.stop is not None:
        body["stop_sequences"] = [settings.stop] if isinstance(settings.stop, str) else settings.stop
    if request.tools:
        body["tools"] = [_tool(spec, is_strict=settings.is_strict(spec.name)) for spec in request.tools]
        if (choice := _tool_choice(settings)) is not None:
            body["tool_choice"] = choice
    return body | _thinking_and_output(request, settings) | settings.extra_body


def with_blocks_dropped(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body that has the server drop the thinking that it does not accept, in place of refusing the request."""
    thinking = body.get("thinking") or {"type": "adaptive"}
    if thinking.get("type") in _HAS_BINDING:
        binding = {**(thinking.get("block_binding") or {}), "prefix_mismatch_behavior": "drop_block"}
        return {**body, "thinking": {**thinking, "block_binding": binding}}
    # The server cannot be told, so that thinking is left out here.
    messages = [
        {**message, "content": [block for block in message["content"] if block["type"] not in _THINKING]}
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


def takes_schema(request: ModelRequest) -> bool:
    """Whether the wire can promise the form of the answer. The loop checks the answer in any case."""
    return request.output is not None and closed(request.output.schema) is not None


def _cache_control(settings: AnthropicSettings) -> dict[str, str]:
    ttl = {"ttl": settings.prompt_cache} if isinstance(settings.prompt_cache, str) else {}
    return {"type": "ephemeral", **ttl}


def _marked(request: ModelRequest, mark: dict[str, str]) -> str | list[dict[str, Any]]:
    """The instructions with a mark where a beginning ends that other requests share: other runs find it in the cache.

    The mark of the whole body stands at the end of the transcript, which no other run has.
    """
    blocks: list[dict[str, Any]] = []
    start = 0
    for end in request.stable[-_MAX_MARKS:]:
        if request.instructions[start:end].strip():
            blocks.append({**_text(request.instructions[start:end]), "cache_control": mark})
            start = end
    if not blocks:
        return request.instructions
    if request.instructions[start:].strip():
        blocks.append(_text(request.instructions[start:]))
    return blocks


def _thinking_and_output(request: ModelRequest, settings: AnthropicSettings) -> dict[str, Any]:
    thinking, config = settings.thinking, {}
    if settings.reasoning_effort == "none":
        thinking = thinking or {"type": "disabled"}
    elif settings.reasoning_effort is not None:
        thinking = thinking or {"type": "adaptive"}
        config["effort"] = settings.reasoning_effort
    found: dict[str, Any] = {} if thinking is None else {"thinking": thinking}
    if request.output is not None and (schema := closed(request.output.schema)) is not None:
        form: Any = {"type": "json_schema", "schema": schema}
        config["format"] = form
    return found | ({"output_config": config} if config else {})


def _tool(spec: ToolSpec, *, is_strict: bool) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": spec.name, "input_schema": spec.parameters}
    if spec.description:
        tool["description"] = spec.description
    if is_strict:
        tool["strict"] = True
        # One that has no form goes as it is: the server says what it does not take.
        tool["input_schema"] = closed(spec.parameters) or spec.parameters
    return tool


def _tool_choice(settings: AnthropicSettings) -> dict[str, Any] | None:
    given = settings.tool_choice
    if given is None and settings.parallel_tool_calls is None:
        return None
    if isinstance(given, dict):
        choice = dict(given)
    else:
        word = given or "auto"
        choice = {"type": _CHOICES[word]} if word in _CHOICES else {"type": "tool", "name": word}
    if settings.parallel_tool_calls is not None and choice.get("type") != "none":
        choice["disable_parallel_tool_use"] = not settings.parallel_tool_calls
    return choice


class _Transcript:
    """The messages of one request, and the ids that its calls have on the wire."""

    def __init__(self, request: ModelRequest, settings: AnthropicSettings, provider: str) -> None:
        self._request = request
        self._provider = provider
        self._origin = Origin(api=settings.api, model=request.model)
        self._ids = CallIds(_CALL_ID)
        self._wire: list[dict[str, Any]] = []

    def messages(self) -> list[dict[str, Any]]:
        for message in self._request.messages:
            match message.role:
                case Role.USER:
                    self._add("user", self._content(message))
                case Role.SYSTEM:
                    # Only the newest models take a system message here.
                    self._add("user", [_text(message.text)])
                case Role.ASSISTANT:
                    self._add("assistant", _without_last_thinking(list(self._reply(message))))
                case Role.TOOL:
                    self._add("user", [self._result(result) for result in message.tool_results])
        return self._wire

    def _add(self, role: str, content: list[dict[str, Any]]) -> None:
        """Add blocks, to the message before where it has the same role: results go before any other words."""
        if not content:
            return
        if self._wire and self._wire[-1]["role"] == role:
            self._wire[-1]["content"].extend(content)
        else:
            self._wire.append({"role": role, "content": content})

    def _reply(self, message: Message) -> Iterator[dict[str, Any]]:
        is_ours = message.origin == self._origin
        if not message.tool_calls and not message.text.strip():
            return  # nothing but thinking: the server wants something that it leads to
        for part in message.parts:
            match part:
                case TextPart() if part.text.strip():
                    yield _text(part.text)
                case ReasoningPart() if not is_ours:
                    pass  # it means something to whoever thought it
                case ReasoningPart() if part.native and REDACTED in part.native:
                    yield {"type": "redacted_thinking", "data": part.native[REDACTED]}
                case ReasoningPart() if part.signature is not None:
                    yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
                case ToolCallPart():
                    name, call_id = part.name, self._ids.of(part)
                    yield {"type": "tool_use", "id": call_id, "name": name, "input": part.arguments}

    def _result(self, result: ToolResultPart) -> dict[str, Any]:
        block: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": self._ids.of(result),
        }
        if result.files:
            block["content"] = returned(result, self._request, _text, self._file)
        elif result.content.strip():
            block["content"] = result.content
        if result.is_error:
            block["is_error"] = True
        return block

    # --- files

    def _content(self, message: Message) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            match part:
                case TextPart() if part.text.strip():
                    blocks.append(_text(part.text))
                case FilePart():
                    blocks.append(self._file(part))
        return blocks

    def _file(self, file: FilePart) -> dict[str, Any]:
        source: dict[str, Any]
        if file.digest is None:
            source = {"type": "url", "url": file.url}
        elif is_text(file):
            return _text(as_text(file, content_of(file, self._request, self._provider)))
        else:
            data = in_base64(content_of(file, self._request, self._provider))
            source = {"type": "base64", "media_type": file.media_type, "data": data}
        if file.media_type in _IMAGES or (file.digest is None and file.media_type.startswith("image/")):
            return {"type": "image", "source": source}
        if file.media_type == "application/pdf":
            return {"type": "document", "source": source} | ({"title": file.name} if file.name else {})
        if file.digest is None:
            raise no_form(file, self._provider, "by URL it takes images and PDFs; attach the file itself")
        raise no_form(file, self._provider, f"it takes {', '.join(MEDIA_TYPES)}")


def _without_last_thinking(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A reply that its token limit cut may end in thinking; a message that does is refused."""
    while content and content[-1]["type"] in _THINKING:
        content.pop()
    return content


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
