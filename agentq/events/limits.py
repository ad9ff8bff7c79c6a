"""Events about what a run may use."""

from __future__ import annotations

from typing import Any, Literal

from agentq.events._event import Numbered


class LimitReached(Numbered):
    """A limit of the run is reached: it ends, or waits, with `within_ms` until it may go on by itself, 0 for never.

    `limit` is its name, `of` what it is a limit of; `used` and `allowed` are tokens, US dollars, iterations or
    seconds, in a `window` of time or in total.
    """

    type: Literal["limit.reached"] = "limit.reached"
    limit: str
    of: str
    used: float
    allowed: float
    on_reached: Literal["fail", "wait"]
    within_ms: int = 0
    window: Literal["hour", "day", "total"] = "total"


class LimitsChanged(Numbered):
    """Somebody gave the run limits of its own, by name. `by` is who, as far as they said."""

    type: Literal["limits.changed"] = "limits.changed"
    limits: dict[str, Any]
    by: str = ""
