"""Settings, and the only reader of the environment. Unset is None until all sources are merged."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agentq.errors import InvalidInput

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_APP = "workers.app:app"
DEFAULT_QUEUE = "default"
# Others wait behind as many; enough to keep stock workers busy, which take wake-ups one by one.
TENANT_WAKEUPS = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_HOUR_MS = 3_600_000
_AT_LEAST_ONE = (
    "concurrency", "tenant_wakeups", "lease_ms", "sweep_ms", "heartbeat_ms", "replication_timeout_ms",
    "ttl_completed_ms", "ttl_failed_ms", "ttl_cancelled_ms", "session_ttl_ms",
)  # fmt: skip
_DURABILITIES = ("acknowledged", "replicated")
# How a run can end; nothing else has a time to live.
_OUTCOMES = ("completed", "failed", "cancelled")
# More than ten years is a mistake in the unit.
_MAX_TTL_S = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, with its default. `AGENTQ_LEASE_MS=5000` sets `lease_ms`, and so on."""

    redis_url: str = DEFAULT_REDIS_URL
    prefix: str = "agentq"
    app: str = DEFAULT_APP
    queue: str = DEFAULT_QUEUE
    model: str | None = None
    concurrency: int = 100
    # A killed worker's runs go on after one lease and one sweep, at most: 10 s + 0.5 s.
    lease_ms: int = 10_000
    sweep_ms: int = 500
    # Deltas wait this long for company before they are written and published.
    coalesce_ms: int = 30
    # A live view that has nothing to say gives a sign of life this often: proxies stay, lost browsers are noticed.
    heartbeat_ms: int = 15_000
    # The event loop may stand still this long before renewal gives its leases up.
    stall_limit_ms: int = 300_000
    # On SIGTERM: how long anything may go on, then how long tools that must not be repeated may go on.
    handover_ms: int = 300
    drain_ms: int = 25_000
    max_recoveries: int = 5
    # So many wake-ups of one tenant stand in a queue; its other runs wait in line.
    tenant_wakeups: int = TENANT_WAKEUPS
    # "replicated": what was accepted, journaled or committed is waited for at a replica too, up to the timeout.
    durability: str = "acknowledged"
    replication_timeout_ms: int = 1_000
    ttl_completed_ms: int = 24 * _HOUR_MS
    ttl_failed_ms: int = 7 * 24 * _HOUR_MS
    ttl_cancelled_ms: int = 24 * _HOUR_MS
    # After the last run of a session; every new run keeps it.
    session_ttl_ms: int = 30 * 24 * _HOUR_MS
    # What requests to the web bring, and people give once. Whoever has it may do everything there.
    web_token: str | None = field(default=None, repr=False)
    # A prompt, a metadata object or a tool result above this size belongs in a file store.
    max_value_bytes: int = 1_000_000
    # One attached file, and all of one run: they travel to Redis in one command, which must not hold up the others.
    max_file_bytes: int = 10_000_000
    max_files_bytes: int = 25_000_000

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, not {getattr(self, name)}", field=name)
        for name in ("coalesce_ms", "handover_ms", "drain_ms", "max_recoveries"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, but is {getattr(self, name)}", field=name)
        if self.lease_ms < 300:
            raise InvalidInput("lease_ms must be at least 300: leases are renewed at a third of it", field="lease_ms")
        if self.durability not in _DURABILITIES:
            words = " or ".join(f'"{word}"' for word in _DURABILITIES)
            raise InvalidInput(f"durability must be {words}, not {self.durability!r}", field="durability")
        check_name(self.prefix, field="prefix")
        check_name(self.queue, field="queue")

    @classmethod
    def load(
        cls, environ: Mapping[str, str] | None = None, *, base: Settings | None = None, **explicit: Any
    ) -> Settings:
        """Merge `base` (the defaults), the environment and `explicit` values that are given. Raises `InvalidInput`."""
        environ = os.environ if environ is None else environ
        merged: dict[str, Any] = {}
        for each in fields(cls):
            variable = "REDIS_URL" if each.name == "redis_url" else f"AGENTQ_{each.name.upper()}"
            text = environ.get(variable)
            if text:
                merged[each.name] = _parse(text, variable) if each.type == "int" else text
        merged.update({name: value for name, value in explicit.items() if value is not None})
        return replace(base or cls(), **merged)

    def ttl_ms(self, status: str) -> int:
        """How long a run that ended with `status` is kept."""
        return {
            "completed": self.ttl_completed_ms,
            "failed": self.ttl_failed_ms,
            "cancelled": self.ttl_cancelled_ms,
        }[status]


@dataclass(frozen=True, slots=True)
class OpenAIEnvironment:
    """What the environment says of OpenAI's API, under the names that OpenAI's own SDK reads. Unset is None."""

    api_key: str | None = None
    base_url: str | None = None
    organization: str | None = None
    project: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> OpenAIEnvironment:
        """Read OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID and OPENAI_PROJECT_ID."""
        return cls(
            variable("OPENAI_API_KEY", environ),
            variable("OPENAI_BASE_URL", environ),
            variable("OPENAI_ORG_ID", environ),
            variable("OPENAI_PROJECT_ID", environ),
        )


def variable(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of an environment variable without the white space around it; None where it is unset or empty."""
    value = (os.environ if environ is None else environ).get(name, "").strip()
    return value or None


def state_folder() -> Path:
    """Where programs of this user keep what should be there the next time (XDG base directories).

    Raises `InvalidInput` where there is no such place: a container may run as a user without a home.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a path that is not absolute counts as none.
    if Path(named).is_absolute():
        return Path(named)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:
        raise InvalidInput("this user has no home; name a folder with XDG_STATE_HOME", field="XDG_STATE_HOME") from None


def check_name(name: str, *, field: str) -> str:
    """Return `name` if it can stand in a Redis key and a URL; raises `InvalidInput`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{field} {name!r} is not a name: use letters, digits, '_', '-' and '.', at most 100, "
            "and begin with a letter or digit",
            field=field,
        )
    return name


def times_to_live(ttl_s: float | Mapping[str, float] | None, *, field: str) -> dict[str, int]:
    """Milliseconds by outcome, from one length in seconds for all or some by outcome. Raises `InvalidInput`."""
    if ttl_s is None:
        return {}
    by_outcome = ttl_s if isinstance(ttl_s, Mapping) else dict.fromkeys(_OUTCOMES, ttl_s)
    for outcome, seconds in by_outcome.items():
        if outcome not in _OUTCOMES:
            raise InvalidInput(f"{field} has {outcome!r}; a run ends as: {', '.join(_OUTCOMES)}", field=field)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.001 <= seconds <= _MAX_TTL_S:
            raise InvalidInput(f"{field} must be between 0.001 and {_MAX_TTL_S} seconds, not {seconds!r}", field=field)
    return {outcome: round(seconds * 1000) for outcome, seconds in by_outcome.items()}


def _parse(text: str, variable: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"{variable} must be a whole number, not {text!r}", field=variable) from None
