"""Where calls to OpenAI go, or to a server that speaks like it, with which key and cache. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agentq.errors import InvalidInput
from agentq.providers import _settings
from agentq.providers._vendors import COMMON, OPENAI, Dialect, dialect_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers.base import ModelRequest
    from agentq.settings import OpenAIEnvironment

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go and how.

    `key_source` says, for people, where the key comes from, None: there is none; `key_name` where one is expected.
    """

    url: str
    headers: Mapping[str, str]
    key_source: str | None
    key_name: str = OPENAI_KEY
    dialect: Dialect = COMMON

    @property
    def chat_api(self) -> str:
        """The wire format and whose it is: other servers do not understand what this one wants back."""
        return f"openai-chat/{urlsplit(self.url).netloc.lower()}"

    @property
    def is_openai(self) -> bool:
        return self.dialect is OPENAI


class OpenAISettings(_settings.HttpSettings):
    """What OpenAI's two APIs have in common."""

    organization: str | None = None
    project: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None


def server_of(settings: OpenAISettings, environment: OpenAIEnvironment, *, endpoint: str) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _base_of(settings, environment, endpoint)
    dialect = dialect_of(urlsplit(base).hostname or "")
    is_openai = dialect is OPENAI
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
    headers = headers_of(
        settings,
        {} if key is None else {"Authorization": f"Bearer {key}"},
        organization=environment.organization if is_theirs else None,
        project=environment.project if is_theirs else None,
    )
    return Server(f"{base}{endpoint}", headers, "extra_headers" if brings_key else source, OPENAI_KEY, dialect)


def dialect_at(settings: OpenAISettings, environment: OpenAIEnvironment, *, endpoint: str) -> Dialect:
    """How the server that `server_of` finds wants its requests. Needs no key. Raises `InvalidInput` for an address."""
    return dialect_of(urlsplit(_base_of(settings, environment, endpoint)).hostname or "")


def _base_of(settings: OpenAISettings, environment: OpenAIEnvironment, endpoint: str) -> str:
    return checked_base(
        settings.base_url or environment.base_url or OPENAI_BASE_URL,
        "model_settings.base_url" if settings.base_url else "OPENAI_BASE_URL",
        endpoint=endpoint,
    )


def headers_of(
    settings: OpenAISettings, key: Mapping[str, str], *, organization: str | None = None, project: str | None = None
) -> dict[str, str]:
    """All headers of a call; the organization and the project are those of the environment."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json", **key}
    for header, value in (
        ("OpenAI-Organization", settings.organization or organization),
        ("OpenAI-Project", settings.project or project),
    ):
        if value:
            headers[header] = _settings.checked_header(value, header)
    return _settings.with_extras(headers, settings)


def checked_base(base: str, field: str, *, endpoint: str) -> str:
    """The base URL as calls use it. Raises `InvalidInput` that names `field`."""
    return _settings.checked_base(base, field, example="http://127.0.0.1:11434/v1", endpoint=endpoint)


def cache_key(request: ModelRequest) -> str | None:
    """What requests with the same beginning share. A session's id may tell who somebody is; its hash does not."""
    name = request.session_id or request.run_id
    return f"agentq-{hashlib.sha256(name.encode()).hexdigest()[:32]}" if name else None
