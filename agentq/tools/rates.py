"""What a tool says of how often it may be called, and of when it is left in peace."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from agentq.errors import InvalidInput

RateOf = Literal["tool", "user", "session"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often a tool may be called by all workers together: "5/minute", or several: "5/minute; 100/day".

    `per` says whose calls are counted together: all of the tool, those of one user, or those of one session. Needs
    `pip install 'agentq-redis[limits]'`. Raises `InvalidInput`.
    """

    limits: str
    per: RateOf = "tool"

    def __post_init__(self) -> None:
        parsed(self.limits)
        if self.per not in get_args(RateOf):
            raise InvalidInput(f'per must be "tool", "user" or "session", not {self.per!r}', field="rate_limit")


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Leaves a tool in peace for `pause_s` when its last `failures` calls have failed, in any worker.

    What it says by `ToolError` is no failure. A failure counts for `window_s`. After the pause one call may try.
    Raises `InvalidInput`.
    """

    failures: int = 5
    pause_s: float = 30.0
    window_s: float = 300.0

    def __post_init__(self) -> None:
        if isinstance(self.failures, bool) or not isinstance(self.failures, int) or self.failures < 1:
            raise InvalidInput(f"failures must be at least 1, not {self.failures!r}", field="breaker")
        for name in ("pause_s", "window_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InvalidInput(f"{name} must be seconds above 0, not {value!r}", field="breaker")


@functools.lru_cache(maxsize=256)
def parsed(limits: str) -> tuple[Any, ...]:
    """The limits, as the library has them. Raises `InvalidInput`."""
    try:
        from limits import parse_many
    except ImportError as error:
        raise InvalidInput(
            "rate_limit needs the library limits: pip install 'agentq-redis[limits]'", field="rate_limit"
        ) from error
    try:
        items = tuple(parse_many(limits))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f'rate_limit must be such as "5/minute" or "5/minute; 100/day", not {limits!r}', field="rate_limit"
        ) from error
    if any(item.amount < 1 for item in items):
        raise InvalidInput(f"rate_limit {limits!r} lets nothing through", field="rate_limit")
    return items
