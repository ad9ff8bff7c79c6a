"""The model settings of Chat Completions, and what they and the environment come to: where a call goes, and how. Pure.

What is not set is not sent: models refuse parameters that they do not know.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentq.errors import InvalidInput
from agentq.settings import OpenAIEnvironment, variable

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
# A reasoning model may think for minutes before the first word, and sends nothing meanwhile.
_IDLE_S = 300.0
_CONNECT_S = 10.0
_OURS = frozenset({"messages", "stream", "tools"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_MODEL = "name the model after the colon, such as {provider}:gpt-4o-mini"

Seconds = Field(default=None, gt=0, le=86_400)


class ChatSettings(BaseModel):
    """`model_settings` of an agent whose model is `openai-chat:…`. Documented in docs/guide/models.md."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    # Where
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    api_key_env: str | None = None
    organization: str | None = None
    project: str | None = None
    # What the model is asked for
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    response_format: dict[str, Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    strict_tools: bool | list[str] = False
    prompt_cache_key: str | None = None
    # How the server wants it
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    system_role: Literal["system", "developer"] | None = None
    note_role: Literal["system", "developer", "user"] | None = None
    send_reasoning: Literal["reasoning_content", "reasoning"] | None = None
    include_usage: bool = True
    extra_headers: dict[str, str] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    # How long
    timeout_s: float | None = Seconds
    idle_timeout_s: float | None = Seconds
    connect_timeout_s: float | None = Seconds


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go and how. `key_source` says, for people, where the key comes from; None: there is none."""

    url: str
    headers: Mapping[str, str]
    key_source: str | None
    is_openai: bool
    is_deepseek: bool


def read_settings(provider: str, given: Mapping[str, Any]) -> ChatSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field."""
    # Unset by None, as a deployment writes it that takes its settings from elsewhere.
    present = {name: value for name, value in given.items() if value is not None}
    for name in present:
        if name not in ChatSettings.model_fields:
            close = difflib.get_close_matches(name, ChatSettings.model_fields, n=1)
            meant = f", did you mean {close[0]!r}?" if close else f"; it has: {', '.join(ChatSettings.model_fields)}"
            raise _wrong(name, f"{provider} has no such setting{meant}")
    try:
        settings = ChatSettings.model_validate(present)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise _wrong(".".join(str(step) for step in problem["loc"]), problem["msg"]) from None
    _check_extras(settings)
    return settings


def server_of(provider: str, settings: ChatSettings, environment: OpenAIEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _checked_base(settings.base_url or environment.base_url or OPENAI_BASE_URL, is_set=bool(settings.base_url))
    host = urlsplit(base).hostname or ""
    is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
    # What the environment says belongs to the server that it names: no other is told OpenAI's key.
    is_theirs = is_openai or settings.base_url in (None, environment.base_url)
    key, source = _key(settings, environment if is_theirs else OpenAIEnvironment())
    brings_key = any(name.lower() == "authorization" for name in settings.extra_headers)
    if key is None and is_openai and not brings_key:
        raise InvalidInput(
            f"{OPENAI_KEY} is not set: put a key of OpenAI into the environment, or name another server with "
            "OPENAI_BASE_URL or model_settings={'base_url': ...}; the model `mock` needs no key",
            field=OPENAI_KEY,
        )
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    for header, ours, theirs in (
        ("OpenAI-Organization", settings.organization, environment.organization),
        ("OpenAI-Project", settings.project, environment.project),
    ):
        if value := ours or (theirs if is_theirs else None):
            headers[header] = _checked_header(value, header)
    replaced = {name.lower() for name in settings.extra_headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced}
    return Server(
        f"{base}/chat/completions",
        headers | settings.extra_headers,
        "extra_headers" if brings_key else source,
        is_openai,
        host == "api.deepseek.com",
    )


def check_model(provider: str, model: str) -> None:
    """Raise `InvalidInput` where no model is named."""
    if not model:
        raise InvalidInput(f"{provider!r} alone is no model: {_MODEL.format(provider=provider)}", field="model")


def idle_s(settings: ChatSettings) -> float:
    return settings.idle_timeout_s or _IDLE_S


def connect_s(settings: ChatSettings) -> float:
    return settings.connect_timeout_s or _CONNECT_S


def _key(settings: ChatSettings, environment: OpenAIEnvironment) -> tuple[str | None, str | None]:
    if settings.api_key is not None:
        key, source = settings.api_key.strip(), "model_settings.api_key"
        if not key:
            raise _wrong("api_key", "is empty; leave it out, or give it a value")
    elif settings.api_key_env is not None:
        source = settings.api_key_env
        key = variable(source) or ""
        if not key:
            raise _wrong("api_key_env", f"names {source}, which is not set in the environment")
    elif environment.api_key is not None:
        key, source = environment.api_key, OPENAI_KEY
    else:
        return None, None
    if not _HEADER_VALUE.fullmatch(key):
        raise InvalidInput(f"the key in {source} holds characters that no key has; copy it again", field=source)
    return key, source


def _checked_base(base: str, *, is_set: bool) -> str:
    """The base URL without the slash at its end."""
    name = "model_settings.base_url" if is_set else "OPENAI_BASE_URL"
    try:
        parts = urlsplit(base)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
        parts = urlsplit("")
    if not is_url or re.search(r"[\x00-\x20\x7f]", base):
        raise InvalidInput(f"{name} must be a URL such as http://127.0.0.1:11434/v1, not {base!r}", field=name)
    if parts.username or parts.password:
        raise InvalidInput(f"{name} must not hold a password; use api_key or extra_headers", field=name)
    if parts.query or parts.fragment:
        raise InvalidInput(f"{name} must end with its path, without ? and #; use extra_body", field=name)
    return base.rstrip("/").removesuffix("/chat/completions")


def _check_extras(settings: ChatSettings) -> None:
    for name, value in settings.extra_headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise _wrong("extra_headers", f"{name!r} cannot name a header")
        _checked_header(value, f"model_settings.extra_headers.{name}")
    if taken := sorted(_OURS & settings.extra_body.keys()):
        raise _wrong("extra_body", f"must not hold {taken[0]!r}, which agentq writes itself")


def _checked_header(value: str, field: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidInput(f"{field} must be printable ASCII, as headers are", field=field)
    return value


def _wrong(name: str, reason: str) -> InvalidInput:
    return InvalidInput(f"model_settings.{name}: {reason}", field=f"model_settings.{name}")
