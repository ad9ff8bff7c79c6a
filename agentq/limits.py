"""What a run may use, and runs together: limits as data, what is spent of them, and which of them is reached. PURE."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

OnReached = Literal["fail", "wait"]
_NANO = 1_000_000_000
# More than ten years is a mistake in the unit.
_MAX_S = 10 * 366 * 86_400
_MAX_COUNT = 2**53


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may use; what is None is not limited. Validated when it is built; raises `InvalidInput`.

    `tokens` counts input and output, `cost_usd` what replies cost whose price is known, `iterations` turns that made
    progress. `wall_s` counts from the first claim, and goes on while the run waits; `no_progress_s` from the last
    commit that made progress, and stands still while it waits. `on_reached`: the run fails, or waits until it may use
    more. Tokens, cost and iterations are looked at before the model is asked, so a run uses at most one reply more.
    Time is watched: it stops the model and tools without an effect; what has an effect is finished.
    """

    tokens: int | None = None
    cost_usd: float | None = None
    iterations: int | None = None
    wall_s: float | None = None
    no_progress_s: float | None = None
    on_reached: OnReached | None = None

    def __post_init__(self) -> None:
        _check_amounts(self, ("tokens", "iterations"), ("cost_usd",))
        for name in ("wall_s", "no_progress_s"):
            _check_number(getattr(self, name), name, 0.001, _MAX_S)
        _check_choice(self.on_reached, "on_reached", (None, *get_args(OnReached)))

    @property
    def is_timed(self) -> bool:
        return self.wall_s is not None or self.no_progress_s is not None

    def over(self, other: RunLimits | None) -> RunLimits:
        """These limits, and those of `other` where these say nothing."""
        return self if other is None else replace(other, **self.given())

    def given(self) -> dict[str, Any]:
        """What is limited, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def limits_of(given: Mapping[str, Any]) -> RunLimits | None:
    """The limits that `RunLimits.given` has named; None for none. Raises `InvalidInput`."""
    return RunLimits(**given) if given else None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands with its limits. Times are milliseconds; usage counts from the last retry."""

    limits: RunLimits | None = None
    tokens: int = 0
    cost_nanousd: int = 0
    iterations: int = 0
    wall_ms: float = 0
    idle_ms: float = 0

    def left_ms(self) -> float | None:
        """How long the run may go on; None where no time is limited."""
        if self.limits is None or not self.limits.is_timed:
            return None
        pairs = ((self.limits.wall_s, self.wall_ms), (self.limits.no_progress_s, self.idle_ms))
        return max(min(limit * 1000 - passed for limit, passed in pairs if limit is not None), 0)


UNLIMITED = Standing()


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that is reached: its name, of what it is, how much is used and allowed, and how it goes on."""

    limit: str
    of: str
    used: float
    allowed: float
    on_reached: OnReached = "fail"
    within_ms: int = 0

    @property
    def text(self) -> str:
        return f"{self.of} has reached its limit {self.limit}={_shown(self.allowed)}: {_shown(self.used)} used"


def reached(standing: Standing, *, asks_model: bool) -> Reached | None:
    """The first limit that forbids to go on. `asks_model`: the next thing would be to ask the model."""
    limits = standing.limits
    if limits is None:
        return None
    # In the units in which they are counted, so that a timer and this agree on when time is over.
    used: list[tuple[str, float, float | None, int]] = [
        ("wall_s", standing.wall_ms, limits.wall_s, 1000),
        ("no_progress_s", standing.idle_ms, limits.no_progress_s, 1000),
    ]
    if asks_model:
        used += [
            ("tokens", standing.tokens, limits.tokens, 1),
            ("cost_usd", standing.cost_nanousd, limits.cost_usd, _NANO),
            ("iterations", standing.iterations, limits.iterations, 1),
        ]
    for name, amount, allowed, unit in used:
        if allowed is not None and amount >= allowed * unit:
            shown = amount if unit == 1 else amount / unit
            return Reached(name, "the run", shown, allowed, limits.on_reached or "fail")
    return None


def _shown(amount: float) -> str:
    return str(amount) if isinstance(amount, int) else f"{amount:.4f}".rstrip("0").rstrip(".")


def _check_amounts(given: Any, counts: tuple[str, ...], costs: tuple[str, ...]) -> None:
    for name in counts:
        value = getattr(given, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidInput(f"{name} must be a whole number, not {value!r}", field=name)
        _check_number(value, name, 1, _MAX_COUNT)
    for name in costs:
        _check_number(getattr(given, name), name, 1 / _NANO, _MAX_COUNT / _NANO)


def _check_number(value: Any, name: str, least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a number, not {value!r}", field=name)
    if not least <= value <= most:
        raise InvalidInput(f"{name} must be between {least:.12g} and {most:.12g}, not {value!r}", field=name)


def _check_choice(value: Any, name: str, known: tuple[Any, ...]) -> None:
    if value not in known:
        words = " or ".join(f'"{each}"' for each in known if each is not None)
        raise InvalidInput(f"{name} must be {words}, not {value!r}", field=name)
