"""The model settings of Gemini, and what they and the environment come to: where a call goes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pydantic import Field

from agentq.errors import InvalidInput
from agentq.providers import _settings
from agentq.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

GOOGLE_HOST = "generativelanguage.googleapis.com"
GOOGLE_BASE_URL = f"https://{GOOGLE_HOST}/v1beta"
GEMINI_KEY = "GEMINI_API_KEY"
GOOGLE_KEY = "GOOGLE_API_KEY"
_OURS = frozenset({"contents", "systemInstruction", "tools"})
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh")
# What would lead out of the path of the model.
_NO_MODEL = re.compile(r"\.\.|[?#&%\\]|//|^/|/$")


class GoogleSettings(_settings.HttpSettings):
    """`model_settings` of an agent whose model is `google:…`. Documented in docs/guide/models.md."""

    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = None
    thinking_budget: int | None = Field(default=None, ge=-1)
    include_thoughts: bool | None = None
    safety_settings: list[dict[str, Any]] | None = None
    cached_content: str | None = None


@dataclass(frozen=True, slots=True)
class GoogleEnvironment:
    """What the environment says of Gemini's API. Unset is None."""

    gemini_key: str | None = None
    google_key: str | None = None
    base_url: str | None = None
    base_name: str = "GEMINI_BASE_URL"

    @classmethod
    def load(cls) -> GoogleEnvironment:
        """Read GEMINI_API_KEY, GOOGLE_API_KEY and GEMINI_BASE_URL, or what Google's SDK reads in place of the last."""
        keys = (variable(GEMINI_KEY), variable(GOOGLE_KEY))
        if base := variable("GEMINI_BASE_URL"):
            return cls(*keys, base)
        if base := variable("GOOGLE_GEMINI_BASE_URL"):
            # The SDK adds the version itself.
            return cls(*keys, f"{base.rstrip('/')}/v1beta", "GOOGLE_GEMINI_BASE_URL")
        return cls(*keys)


@dataclass(frozen=True, slots=True)
class Server:
    """Where calls go and how. `key_source` says, for people, where the key comes from; None: there is none."""

    base: str
    headers: Mapping[str, str]
    key_source: str | None

    def url(self, model: str) -> str:
        """Where the replies of `model` are streamed from."""
        path = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
        return f"{self.base}/{quote(path, safe='/:@')}:streamGenerateContent?alt=sse"


def check_model(provider: str, model: str) -> None:
    """Raise `InvalidInput` for what cannot be the name of a model."""
    _settings.check_model(provider, model, "gemini-3-flash")
    if _NO_MODEL.search(model):
        raise InvalidInput(f"{model!r} cannot be the name of a model of {provider}", field="model")


def read_settings(provider: str, given: Mapping[str, Any]) -> GoogleSettings:
    """Check the settings of an agent. Raises `InvalidInput` that names the field, also for what Gemini cannot do."""
    settings = _settings.read(provider, GoogleSettings, given, ours=_OURS)
    effort = settings.reasoning_effort
    if effort is not None and effort not in _EFFORTS:
        raise _settings.wrong(
            "reasoning_effort",
            f"must be one of {', '.join(_EFFORTS)}, not {effort!r}; thinking_budget=0 turns thinking off where the "
            "model can",
        )
    if effort is not None and settings.thinking_budget is not None:
        raise _settings.wrong("thinking_budget", "goes with models that have no reasoning_effort; set one of the two")
    if settings.parallel_tool_calls is False:
        raise _settings.wrong("parallel_tool_calls", f"{provider} cannot keep a model from calling several tools")
    if isinstance(settings.strict_tools, list) and settings.strict_tools:
        raise _settings.wrong("strict_tools", f"{provider} keeps all tools to their schemas or none; set true or false")
    if isinstance(settings.tool_choice, dict) and "streamFunctionCallArguments" in settings.tool_choice:
        raise _settings.wrong("tool_choice", "must not hold 'streamFunctionCallArguments': calls are read whole")
    if settings.cached_content is not None and (settings.tool_choice is not None or settings.strict_tools):
        name = "strict_tools" if settings.tool_choice is None else "tool_choice"
        raise _settings.wrong(name, "cannot be sent beside cached_content, which brings its own tools")
    return settings


def server_of(provider: str, settings: GoogleSettings, environment: GoogleEnvironment) -> Server:
    """Where to send a call. Raises `InvalidInput` for an address or a key that cannot be used, or is missing."""
    base = _settings.checked_base(
        settings.base_url or environment.base_url or GOOGLE_BASE_URL,
        "model_settings.base_url" if settings.base_url else environment.base_name,
        example=GOOGLE_BASE_URL,
        endpoint="/models",
    )
    is_google = urlsplit(base).hostname == GOOGLE_HOST
    # What the environment says belongs to the server that it names: no other is told Google's key.
    is_theirs = is_google or settings.base_url in (None, environment.base_url)
    keys = {GEMINI_KEY: environment.gemini_key, GOOGLE_KEY: environment.google_key}
    key, source = _settings.find_key(settings, keys if is_theirs else {})
    brings_key = _settings.brings(settings, "x-goog-api-key", "authorization")
    if key is None and is_google and not brings_key:
        raise InvalidInput(
            f"{GEMINI_KEY} is not set: put a key of Gemini's API into the environment, or name another server with "
            "GEMINI_BASE_URL or model_settings={'base_url': ...}; the model `mock` needs no key",
            field=GEMINI_KEY,
        )
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
    if key is not None and not _settings.brings(settings, "authorization"):
        headers["x-goog-api-key"] = key
    return Server(base, _settings.with_extras(headers, settings), "extra_headers" if brings_key else source)
