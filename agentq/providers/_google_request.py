"""The body of a generateContent request: contents, files, tools and settings in the words of the wire. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentq.messages import (
    FilePart,
    Message,
    Origin,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    neutral,
)
from agentq.providers._files import as_text, content_of, in_base64, is_text, no_form, returned_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers._google_settings import GoogleSettings
    from agentq.providers.base import ModelRequest
    from agentq.tools.spec import ToolSpec

# The wire format and its version, as `Origin.api` names it.
API = "google/v1beta"
# What a message of the user may hold. Text is written into the message.
MEDIA_TYPES = ("image/*", "application/pdf", "audio/*", "video/*", "text/*", "application/json")
# Documented for calls that another model made: without it, Gemini 3 refuses a call that has no signature.
FOREIGN_SIGNATURE = "skip_thought_signature_validator"

_CONFIG = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
# Gemini 2 and older answer 400 to files within a result; so may other models of this API.
_FILES_IN_RESULTS = re.compile(r"(models/)?gemini-(?![12]\b)")
# What may stand there; other kinds, and files by URL, may not.
_IN_RESULTS = ("image/png", "image/jpeg", "image/webp", "application/pdf")
# Up to 2.5, models that have tools refuse to be held to a form.
_EITHER_FORM_OR_TOOLS = re.compile(r"(models/)?gemini-[12]\b")


def request_body(request: ModelRequest, settings: GoogleSettings, *, provider: str) -> dict[str, Any]:
    """The body to send as JSON. Raises `ProviderError`, not retryable, for a file that has no form on this wire."""
    body: dict[str, Any] = {"contents": _Transcript(request, provider).contents()}
    if settings.cached_content is not None:
        # The cache holds instructions and tools itself; a request that repeats them is refused.
        body["cachedContent"] = settings.cached_content
    else:
        if request.instructions:
            body["systemInstruction"] = {"parts": [{"text": request.instructions}]}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(spec) for spec in request.tools]}]
            if calling := _calling(settings):
                body["toolConfig"] = {"functionCallingConfig": calling}
    if config := _config(request, settings):
        body["generationConfig"] = config
    if settings.safety_settings is not None:
        body["safetySettings"] = settings.safety_settings
    return _with_extras(body, settings.extra_body)


def _config(request: ModelRequest, settings: GoogleSettings) -> dict[str, Any]:
    config = {wire: value for name, wire in _CONFIG.items() if (value := getattr(settings, name)) is not None}
    if settings.stop is not None:
        config["stopSequences"] = [settings.stop] if isinstance(settings.stop, str) else settings.stop
    if thinking := _thinking(settings):
        config["thinkingConfig"] = thinking
    if request.output is not None and not (request.tools and _EITHER_FORM_OR_TOOLS.match(request.model)):
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = request.output.schema
    return config


def _thinking(settings: GoogleSettings) -> dict[str, Any]:
    thinking: dict[str, Any] = {}
    if settings.reasoning_effort is not None:
        thinking["thinkingLevel"] = settings.reasoning_effort.upper()
    if settings.thinking_budget is not None:
        thinking["thinkingBudget"] = settings.thinking_budget
    shows = settings.include_thoughts
    if shows is None and thinking:
        shows = settings.thinking_budget != 0
    return thinking if shows is None else {"includeThoughts": shows, **thinking}


def _declaration(spec: ToolSpec) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": spec.name, "parametersJsonSchema": spec.parameters}
    if spec.description:
        declaration["description"] = spec.description
    return declaration


def _calling(settings: GoogleSettings) -> Mapping[str, Any] | None:
    """How the model may call. `ANY` keeps to the schemas as it is; VALIDATED is AUTO that does."""
    choice = settings.tool_choice
    if isinstance(choice, dict):
        return choice
    if settings.strict_tools is True and choice in (None, "auto"):
        return {"mode": "VALIDATED"}
    if choice is None:
        return None
    return {"mode": _MODES[choice]} if choice in _MODES else {"mode": "ANY", "allowedFunctionNames": [choice]}


def _with_extras(body: dict[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the user's keys, those of the objects in it one by one: generationConfig holds most of them."""
    for name, value in extras.items():
        ours = body.get(name)
        body[name] = ours | value if isinstance(ours, dict) and isinstance(value, dict) else value
    return body


class _Transcript:
    """The messages of one request, and the ids that its calls have on the wire."""

    def __init__(self, request: ModelRequest, provider: str) -> None:
        self._request = request
        self._provider = provider
        self._origin = Origin(api=API, model=request.model)
        self._ids: dict[str, str | None] = {}  # by our call id, in the order of the calls
        self._taken: set[str] = set()
        self._contents: list[dict[str, Any]] = []

    def contents(self) -> list[dict[str, Any]]:
        for message in self._request.messages:
            match message.role:
                case Role.USER:
                    self._add_user([self._said(part) for part in message.parts if not _is_empty(part)])
                case Role.SYSTEM:
                    self._add_user([{"text": message.text}])
                case Role.ASSISTANT if message.origin == self._origin:
                    self._add_own(message)
                case Role.ASSISTANT:
                    self._add_foreign(neutral(message))
                case Role.TOOL:
                    self._add_results(message)
        return self._contents

    def _add_user(self, parts: list[dict[str, Any]]) -> None:
        """Add what the user says to the content before it, where that is the user's too and no results."""
        parts = parts or [{"text": ""}]
        last = self._contents[-1] if self._contents else None
        if last is None or last["role"] != "user" or "functionResponse" in last["parts"][0]:
            self._contents.append({"role": "user", "parts": parts})
        else:
            last["parts"] += parts

    def _add_model(self, parts: list[dict[str, Any]]) -> None:
        if parts:
            self._contents.append({"role": "model", "parts": parts})

    # --- replies of this model: part by part as they came

    def _add_own(self, message: Message) -> None:
        if all(isinstance(part, ReasoningPart) for part in message.parts):
            return  # thoughts alone are no content
        self._add_model([self._own(part) for part in message.parts])

    def _own(self, part: Any) -> dict[str, Any]:
        native: dict[str, Any] = part.native or {}
        match part:
            case ToolCallPart():
                self._ids[part.call_id] = part.provider_call_id
                if part.provider_call_id is not None:
                    self._taken.add(part.provider_call_id)
                return _as_sent(self._call(part), native)
            case ReasoningPart():
                signed = {} if part.signature is None else {"thoughtSignature": part.signature}
                return {"text": part.text, "thought": True} | native | signed
            case _ if "part" in native:
                whole: dict[str, Any] = native["part"]
                return whole
            case _:
                return {"text": part.text} | native

    # --- replies of others

    def _add_foreign(self, message: Message) -> None:
        parts: list[dict[str, Any]] = []
        is_first_call = True
        for part in message.parts:
            match part:
                case TextPart() if part.text:
                    parts.append({"text": part.text})
                case ToolCallPart():
                    self._ids[part.call_id] = self._free_id(part)
                    call = self._call(part)
                    parts.append(call | {"thoughtSignature": FOREIGN_SIGNATURE} if is_first_call else call)
                    is_first_call = False
        self._add_model(parts)

    def _free_id(self, call: ToolCallPart) -> str:
        """The other's own id of a call, or one made of ours where it is missing or taken by another call."""
        wire = call.provider_call_id or ""
        if not wire or wire in self._taken:
            wire = call.call_id.replace(".", "-")
        self._taken.add(wire)
        return wire

    def _call(self, call: ToolCallPart) -> dict[str, Any]:
        wire_id = self._ids[call.call_id]
        identified = {} if wire_id is None else {"id": wire_id}
        return {"functionCall": {**identified, "name": call.name, "args": call.arguments}}

    # --- results

    def _add_results(self, message: Message) -> None:
        """All in one content, in the order of their calls: those without an id are told apart by it."""
        order = {call_id: place for place, call_id in enumerate(self._ids)}
        results = sorted(message.tool_results, key=lambda result: order.get(result.call_id, len(order)))
        apart: list[dict[str, Any]] = []
        if results:
            self._contents.append({"role": "user", "parts": [self._result(result, apart) for result in results]})
        if apart:
            self._add_user(apart)

    def _result(self, result: ToolResultPart, apart: list[dict[str, Any]]) -> dict[str, Any]:
        """One result. What of its files has no place in it goes to `apart`, which follows as words of the user."""
        wire_id = self._ids.get(result.call_id, result.provider_call_id)
        identified = {} if wire_id is None else {"id": wire_id}
        # A result that is unknown or was cancelled explains itself.
        key = "error" if result.outcome == "error" else "output"
        within = [file for file in result.files if self._has_place_in_result(file)]
        rest = result.model_copy(update={"files": tuple(file for file in result.files if file not in within)})
        text, whose, files = returned_apart(rest, wire_id or result.call_id, self._request, self._file)
        apart += [{"text": whose}, *files] if files else []
        response = {**identified, "name": result.name, "response": {key: text}}
        return {"functionResponse": response | ({"parts": [self._file(file) for file in within]} if within else {})}

    def _has_place_in_result(self, file: FilePart) -> bool:
        has_content = file.digest is not None and file.digest in self._request.files
        return has_content and file.media_type in _IN_RESULTS and bool(_FILES_IN_RESULTS.match(self._request.model))

    # --- the user

    def _said(self, part: Any) -> dict[str, Any]:
        return self._file(part) if isinstance(part, FilePart) else {"text": part.text}

    def _file(self, file: FilePart) -> dict[str, Any]:
        if not _is_taken(file.media_type):
            raise no_form(file, self._provider, f"it takes {', '.join(MEDIA_TYPES)}")
        if file.digest is None:
            return {"fileData": {"mimeType": file.media_type, "fileUri": file.url}}
        content = content_of(file, self._request, self._provider)
        if is_text(file):
            return {"text": as_text(file, content)}
        return {"inlineData": {"mimeType": file.media_type, "data": in_base64(content)}}


def _is_empty(part: Any) -> bool:
    return isinstance(part, TextPart) and not part.text


def _is_taken(media_type: str) -> bool:
    kind, _, _ = media_type.partition("/")
    return media_type in MEDIA_TYPES or f"{kind}/*" in MEDIA_TYPES


def _as_sent(part: dict[str, Any], native: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a call with what is native to it. Null there says that the model did not send this key."""
    call = part["functionCall"] | native.get("functionCall", {})
    return _without_nulls({**part, **native, "functionCall": _without_nulls(call)})


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
