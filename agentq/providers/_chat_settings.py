"""The model settings of Chat Completions, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from agentq.errors import InvalidInput
from agentq.providers import _openai_server, _settings
from agentq.providers._openai_server import OpenAISettings, Server, checked_base, headers_of
from agentq.providers._vendors import OLLAMA_HOST
from agentq.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.providers._vendors import Dialect, Vendor
    from agentq.settings import OpenAIEnvironment

_OURS = frozenset({"messages", "stream", "tools"})
_ENDPOINT = "/chat/completions"
_PLACE = re.compile(r"(?P<name>\[[^]]*\]|[^:]*)(:(?P<port>\d*))?")
# Addresses to listen on, not to call.
_ANYWHERE = ("", "0.0.0.0", "[::]")  # noqa: S104


class ChatSettings(OpenAISettings):
    """`model_settings` of an agent whose model is `openai-chat:…`. Documented in docs/guide/models.md."""

    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    # How the server wants it
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    system_role: Literal["system", "developer"] | None = None
    note_role: Literal["system", "developer", "user"] | None = None
    send_reasoning: Literal["reasoning_content", "reasoning"] | None = None
    include_usage: bool | None = None


def read_settings(provider: str, given: Mapping[str, Any]) -> ChatSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field."""
    return _settings.read(provider, ChatSettings, given, ours=_OURS)


def server_of(settings: ChatSettings, environment: OpenAIEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    return _openai_server.server_of(settings, environment, endpoint=_ENDPOINT)


def dialect_at(settings: ChatSettings, environment: OpenAIEnvironment) -> Dialect:
    """How that server wants its requests. Needs no key. Raises `InvalidInput` for an address that cannot be used."""
    return _openai_server.dialect_at(settings, environment, endpoint=_ENDPOINT)


def vendor_server_of(vendor: Vendor, settings: ChatSettings) -> Server:
    """Where to send a call to a vendor with a name of its own. Raises `InvalidInput` as `server_of` does."""
    own = _own_base(vendor)
    base = checked_base(settings.base_url, "model_settings.base_url", endpoint=_ENDPOINT) if settings.base_url else own
    if base is None:
        raise InvalidInput(
            f"{vendor.base_variable} is not set: put the address of {vendor.title} there, or into "
            "model_settings={'base_url': ...}",
            field=vendor.base_variable,
        )
    # The vendor's key is for the vendor: another server that a setting names is not told.
    is_theirs = _place_of(base) in [_place_of(each) for each in (own, vendor.base_url) if each]
    key, source = _settings.find_key(settings, {vendor.key: variable(vendor.key) if is_theirs else None})
    brings_key = _settings.brings(settings, "authorization", vendor.key_header.lower())
    if key is None and vendor.needs_key and is_theirs and not brings_key:
        raise InvalidInput(
            f"{vendor.key} is not set: put a key of {vendor.title} into the environment, or name another variable with "
            "model_settings={'api_key_env': ...}",
            field=vendor.key,
        )
    sent = {}
    if key is not None and not brings_key:
        sent[vendor.key_header] = f"Bearer {key}" if vendor.key_header == "Authorization" else key
    return Server(
        f"{base}{_ENDPOINT}",
        headers_of(settings, sent),
        "extra_headers" if brings_key else source,
        vendor.key if is_theirs else "model_settings.api_key",
        vendor.dialect,
    )


def _own_base(vendor: Vendor) -> str | None:
    """Where the vendor is: by its own variable, else where everybody finds it."""
    given = variable(vendor.base_variable) if vendor.base_variable else None
    if given is None or vendor.base_variable is None:
        return vendor.base_url
    given = _ollama_url(given) if vendor.base_variable == OLLAMA_HOST else given
    base = checked_base(given, vendor.base_variable, endpoint=_ENDPOINT)
    return base.removesuffix(vendor.base_path).rstrip("/") + vendor.base_path


def _ollama_url(host: str) -> str:
    """OLLAMA_HOST as Ollama's own clients read it: the scheme, the host and the port may be missing.

    It may also be where a server listens, such as 0.0.0.0; that one is reached at this machine.
    """
    scheme, has_scheme, rest = host.rpartition("://")
    place, slash, path = rest.partition("/")
    found = _PLACE.fullmatch(place)
    name, port = (found["name"], found["port"]) if found else (place, None)
    if not has_scheme:
        scheme, port = "http", port or "11434"
    if name in _ANYWHERE:
        name = "127.0.0.1"
    return f"{scheme}://{name}{f':{port}' if port else ''}{slash}{path}"


def _place_of(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
