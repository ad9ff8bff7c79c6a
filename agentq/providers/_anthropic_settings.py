"""The model settings of Anthropic's Messages, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from agentq.errors import InvalidInput
from agentq.providers import _settings
from agentq.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

ANTHROPIC_BASE_URL = "https://api.anthropic.com"
ANTHROPIC_KEY = "ANTHROPIC_API_KEY"
ANTHROPIC_TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
_API_VERSION = "2023-06-01"
# The wire wants a limit.
_MAX_TOKENS = 4096
# From this version of the API on, sampling parameters are refused.
_WITHOUT_SAMPLING = "2026-10-21"
_EFFORTS = ("none", "low", "medium", "high", "xhigh", "max")
_OURS = frozenset({"messages", "stream", "system", "tools"})
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


class AnthropicSettings(_settings.HttpSettings):
    """`model_settings` of an agent whose model is `anthropic:…`. Documented in docs/guide/models.md."""

    top_k: int | None = Field(default=None, ge=0)
    thinking: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache: bool | Literal["5m", "1h"] | None = None
    api_version: str = _API_VERSION
    betas: list[str] = Field(default_factory=list)

    @property
    def api(self) -> str:
        """What replies say of their origin."""
        return f"anthropic/{self.api_version}"

    @property
    def token_limit(self) -> int:
        """The longest reply, in tokens. Thinking counts, so a budget for it comes on top where no limit was set."""
        budget = (self.thinking or {}).get("budget_tokens")
        return self.max_tokens or _MAX_TOKENS + (budget if isinstance(budget, int) else 0)


@dataclass(frozen=True, slots=True)
class AnthropicEnvironment:
    """What the environment says of Anthropic's API, under the names that its own SDK reads. Unset is None."""

    api_key: str | None = None
    auth_token: str | None = None
    base_url: str | None = None

    @classmethod
    def load(cls) -> AnthropicEnvironment:
        """Read ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN and ANTHROPIC_BASE_URL."""
        return cls(variable(ANTHROPIC_KEY), variable(ANTHROPIC_TOKEN), variable("ANTHROPIC_BASE_URL"))


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go and how. `key_source` says, for people, where the key comes from; None: there is none."""

    url: str
    headers: Mapping[str, str]
    key_source: str | None
    is_anthropic: bool


def read_settings(provider: str, given: Mapping[str, Any]) -> AnthropicSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field."""
    settings = _settings.read(provider, AnthropicSettings, given, ours=_OURS)
    if not _VERSION.fullmatch(settings.api_version):
        raise _settings.wrong("api_version", f"must be a date such as {_API_VERSION}, not {settings.api_version!r}")
    for beta in settings.betas:
        _settings.checked_header(beta, "model_settings.betas")
    if settings.temperature is not None and settings.temperature > 1:
        raise _settings.wrong("temperature", "goes from 0 to 1 here")
    if settings.api_version >= _WITHOUT_SAMPLING:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(settings, name) is not None:
                raise _settings.wrong(name, f"does not exist in version {settings.api_version} of the API")
    if settings.reasoning_effort is not None and settings.reasoning_effort not in _EFFORTS:
        raise _settings.wrong("reasoning_effort", f"must be one of {', '.join(_EFFORTS)}")
    if (settings.thinking or {}).get("type") == "enabled" and _is_forced(settings.tool_choice):
        raise _settings.wrong("tool_choice", "cannot force a call while thinking has a budget; leave it 'auto'")
    return settings


def server_of(provider: str, settings: AnthropicSettings, environment: AnthropicEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _settings.checked_base(
        settings.base_url or environment.base_url or ANTHROPIC_BASE_URL,
        "model_settings.base_url" if settings.base_url else "ANTHROPIC_BASE_URL",
        example=ANTHROPIC_BASE_URL,
        endpoint="/v1/messages",
    ).removesuffix("/v1")
    is_anthropic = urlsplit(base).hostname == urlsplit(ANTHROPIC_BASE_URL).hostname
    # What the environment says belongs to the server that it names: no other is told Anthropic's key.
    is_theirs = is_anthropic or settings.base_url in (None, environment.base_url)
    keys = {ANTHROPIC_KEY: environment.api_key, ANTHROPIC_TOKEN: environment.auth_token}
    brings_key = _settings.brings(settings, "x-api-key", "authorization")
    key, source = _settings.find_key(settings, keys if is_theirs and not brings_key else {})
    if key is None and is_anthropic and not brings_key:
        raise InvalidInput(
            f"{ANTHROPIC_KEY} is not set: put a key of {provider} into the environment, or name another server with "
            "ANTHROPIC_BASE_URL or model_settings={'base_url': ...}; the model `mock` needs no key",
            field=ANTHROPIC_KEY,
        )
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "anthropic-version": settings.api_version,
    }
    if settings.betas:
        headers["anthropic-beta"] = ",".join(settings.betas)
    if key is not None:
        if source == ANTHROPIC_TOKEN:
            headers["Authorization"] = f"Bearer {key}"
        else:
            headers["x-api-key"] = key
    return Server(
        f"{base}/v1/messages",
        _settings.with_extras(headers, settings),
        source or ("extra_headers" if brings_key else None),
        is_anthropic,
    )


def _is_forced(choice: str | dict[str, Any] | None) -> bool:
    if isinstance(choice, dict):
        return choice.get("type") in ("any", "tool")
    return choice not in (None, "auto", "none")
