"""The model settings of Chat Completions, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from agentq.errors import InvalidInput
from agentq.providers import _settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.settings import OpenAIEnvironment

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
# A reasoning model may think for minutes before the first word, and this wire has no event to tell of it.
_FIRST_S = 300.0
_OURS = frozenset({"messages", "stream", "tools"})


class ChatSettings(_settings.HttpSettings):
    """`model_settings` of an agent whose model is `openai-chat:…`. Documented in docs/guide/models.md."""

    organization: str | None = None
    project: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    response_format: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    # How the server wants it
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    system_role: Literal["system", "developer"] | None = None
    note_role: Literal["system", "developer", "user"] | None = None
    send_reasoning: Literal["reasoning_content", "reasoning"] | None = None
    include_usage: bool = True

    @property
    def first_s(self) -> float:
        """How long the server may be silent before its first event."""
        return self.idle_timeout_s or _FIRST_S


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
    return _settings.read(provider, ChatSettings, given, ours=_OURS)


def server_of(provider: str, settings: ChatSettings, environment: OpenAIEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _settings.checked_base(
        settings.base_url or environment.base_url or OPENAI_BASE_URL,
        "model_settings.base_url" if settings.base_url else "OPENAI_BASE_URL",
        example="http://127.0.0.1:11434/v1",
        endpoint="/chat/completions",
    )
    host = urlsplit(base).hostname or ""
    is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
    # What the environment says belongs to the server that it names: no other is told OpenAI's key.
    is_theirs = is_openai or settings.base_url in (None, environment.base_url)
    key, source = _settings.find_key(settings, {OPENAI_KEY: environment.api_key if is_theirs else None})
    brings_key = _settings.brings(settings, "authorization")
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
            headers[header] = _settings.checked_header(value, header)
    return Server(
        f"{base}/chat/completions",
        _settings.with_extras(headers, settings),
        "extra_headers" if brings_key else source,
        is_openai,
        host == "api.deepseek.com",
    )
