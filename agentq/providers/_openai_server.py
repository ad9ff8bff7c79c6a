"""Where calls to OpenAI go, or to a server that speaks like it, with which key and cache. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agentq.errors import InvalidInput
from agentq.providers import _settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers.base import ModelRequest
    from agentq.settings import OpenAIEnvironment

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go and how. `key_source` says, for people, where the key comes from; None: there is none."""

    url: str
    headers: Mapping[str, str]
    key_source: str | None
    is_openai: bool
    is_deepseek: bool


def server_of(
    settings: _settings.HttpSettings,
    environment: OpenAIEnvironment,
    *,
    endpoint: str,
    organization: str | None,
    project: str | None,
) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _settings.checked_base(
        settings.base_url or environment.base_url or OPENAI_BASE_URL,
        "model_settings.base_url" if settings.base_url else "OPENAI_BASE_URL",
        example="http://127.0.0.1:11434/v1",
        endpoint=endpoint,
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
        ("OpenAI-Organization", organization, environment.organization),
        ("OpenAI-Project", project, environment.project),
    ):
        if value := ours or (theirs if is_theirs else None):
            headers[header] = _settings.checked_header(value, header)
    return Server(
        f"{base}{endpoint}",
        _settings.with_extras(headers, settings),
        "extra_headers" if brings_key else source,
        is_openai,
        host == "api.deepseek.com",
    )


def cache_key(request: ModelRequest) -> str | None:
    """What requests with the same beginning share. A session's id may tell who somebody is; its hash does not."""
    name = request.session_id or request.run_id
    return f"agentq-{hashlib.sha256(name.encode()).hexdigest()[:32]}" if name else None
