"""What the model settings of all HTTP providers have in common: fields, checks, keys and addresses. Pure.

What is not set is not sent: models refuse parameters that they do not know.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentq.errors import InvalidInput
from agentq.providers._retry import Retry
from agentq.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECT_S = 10.0
_HEADERS_S = 120.0
_IDLE_S = 60.0
# A reasoning model may think for minutes before the first word, and not every wire has an event to tell of it.
_FIRST_S = 300.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")

Seconds = Field(default=None, gt=0, le=86_400)


class HttpSettings(BaseModel):
    """The settings that every HTTP provider has. Documented in docs/guide/models.md.

    `api_key` may be a function that gives it; it is called for each request, in the event loop, so it must be quick.
    `stop` is one text or several. `tool_choice` is `auto`, `none`, `required` or the name of a tool that must be
    called, or what the provider's own wire has for it. `strict_tools`: all tools, or those named. `tool_files` is read
    by the loop: see `result_media_types_of`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    # Where
    base_url: str | None = None
    api_key: str | Callable[[], str] | None = Field(default=None, repr=False)
    api_key_env: str | None = None
    # What the model is asked for
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    strict_tools: bool | list[str] = False
    tool_files: bool = True
    extra_headers: dict[str, str] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    # How long, and how often
    retry: Retry = Field(default_factory=Retry)
    timeout_s: float | None = Seconds
    headers_timeout_s: float | None = Seconds
    idle_timeout_s: float | None = Seconds
    connect_timeout_s: float | None = Seconds

    @property
    def connect_s(self) -> float:
        """How long to wait for a connection."""
        return self.connect_timeout_s or _CONNECT_S

    @property
    def headers_s(self) -> float:
        """How long to wait for the status of the answer."""
        return self.headers_timeout_s or _HEADERS_S

    @property
    def idle_s(self) -> float:
        """How long the server may be silent between two events; comments are silence."""
        return self.idle_timeout_s or _IDLE_S

    @property
    def first_s(self) -> float:
        """How long the server may be silent before its first event."""
        return self.idle_timeout_s or _FIRST_S

    def is_strict(self, tool: str) -> bool:
        """Whether the arguments of `tool` must follow its schema."""
        return self.strict_tools is True or (self.strict_tools is not False and tool in self.strict_tools)


S = TypeVar("S", bound=HttpSettings)


def read(provider: str, kind: type[S], given: Mapping[str, Any], *, ours: frozenset[str]) -> S:
    """Check the settings of an agent. `ours` are the keys of the body that `extra_body` must not hold.

    Raises `InvalidInput` that names the field.
    """
    # Unset by None, as a deployment writes it that takes its settings from elsewhere.
    present = {name: value for name, value in given.items() if value is not None}
    for name in present:
        if name not in kind.model_fields:
            close = difflib.get_close_matches(name, kind.model_fields, n=1)
            meant = f", did you mean {close[0]!r}?" if close else f"; it has: {', '.join(kind.model_fields)}"
            raise wrong(name, f"{provider} has no such setting{meant}")
    try:
        settings = kind.model_validate(present)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise wrong(".".join(str(step) for step in problem["loc"]), problem["msg"]) from None
    for name, value in settings.extra_headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise wrong("extra_headers", f"{name!r} cannot name a header")
        checked_header(value, f"model_settings.extra_headers.{name}")
    if taken := sorted(ours & settings.extra_body.keys()):
        raise wrong("extra_body", f"must not hold {taken[0]!r}, which agentq writes itself")
    return settings


def check_model(provider: str, model: str, example: str) -> None:
    """Raise `InvalidInput` where no model is named."""
    if not model:
        raise InvalidInput(
            f"{provider!r} alone is no model: name the model after the colon, such as {provider}:{example}",
            field="model",
        )


def find_key(settings: HttpSettings, environment: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """The key, and for people where it comes from: the settings, else the first of `environment` that has one.

    `environment` is by name of the variable. Raises `InvalidInput` for a key that cannot be one.
    """
    if settings.api_key is not None:
        key, source = _said(settings.api_key).strip(), "model_settings.api_key"
        if not key:
            raise wrong("api_key", "is empty; leave it out, or give it a value")
    elif settings.api_key_env is not None:
        source = settings.api_key_env
        key = variable(source) or ""
        if not key:
            raise wrong("api_key_env", f"names {source}, which is not set in the environment")
    else:
        found = next(((name, value) for name, value in environment.items() if value is not None), None)
        if found is None:
            return None, None
        source, key = found
    if not _HEADER_VALUE.fullmatch(key):
        raise InvalidInput(f"the key in {source} holds characters that no key has; copy it again", field=source)
    return key, source


def _said(key: str | Callable[[], str]) -> str:
    """The key, from the function that gives it where it is one: it may change, so each call asks again."""
    if isinstance(key, str):
        return key
    try:
        said = key()
    except Exception as error:
        # The words of a foreign error might hold the key.
        raise wrong("api_key", f"the function that gives it raised {type(error).__name__}") from error
    if not isinstance(said, str):
        raise wrong("api_key", f"the function that gives it returned {type(said).__name__}, not str")
    return said


def checked_base(base: str, field: str, *, example: str, endpoint: str = "") -> str:
    """The base URL without the slash at its end, and without `endpoint`, which is often copied along.

    Raises `InvalidInput` that names `field`.
    """
    try:
        parts = urlsplit(base)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
        parts = urlsplit("")
    if not is_url or re.search(r"[\x00-\x20\x7f]", base):
        raise InvalidInput(f"{field} must be a URL such as {example}, not {base!r}", field=field)
    if parts.username or parts.password:
        raise InvalidInput(f"{field} must not hold a password; use api_key or extra_headers", field=field)
    if parts.query or parts.fragment:
        raise InvalidInput(f"{field} must end with its path, without ? and #; use extra_body", field=field)
    return base.rstrip("/").removesuffix(endpoint).rstrip("/")


def checked_header(value: str, field: str) -> str:
    """`value`, if a header can hold it. Raises `InvalidInput`."""
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidInput(f"{field} must be printable ASCII, as headers are", field=field)
    return value


def with_extras(headers: Mapping[str, str], settings: HttpSettings) -> dict[str, str]:
    """The headers, with those of the user in place of ours of the same name."""
    replaced = {name.lower() for name in settings.extra_headers}
    return {name: value for name, value in headers.items() if name.lower() not in replaced} | settings.extra_headers


def brings(settings: HttpSettings, *names: str) -> bool:
    """Whether the user's own headers hold one of `names`, given in lower case."""
    return any(name.lower() in names for name in settings.extra_headers)


def wrong(name: str, reason: str) -> InvalidInput:
    """The error for the model setting `name`."""
    return InvalidInput(f"model_settings.{name}: {reason}", field=f"model_settings.{name}")
