"""What a run may use, and runs together: limits as data, what is spent of them, and which of them is reached. PURE."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from agentq.errors import InvalidInput

OnReached = Literal["fail", "wait"]
Per = Literal["user", "session", "agent", "all"]
Window = Literal["hour", "day", "total"]
# By the store's clock, from the hour and the day of UTC.
WINDOW_MS: Mapping[Window, int] = {"hour": 3_600_000, "day": 86_400_000, "total": 0}
# How long a count is kept after something was added to it: past windows can be asked for.
KEPT_MS: Mapping[Window, int] = {"hour": 2 * 86_400_000, "day": 35 * 86_400_000, "total": 35 * 86_400_000}
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
class SpendLimit:
    """What runs may use together, in an hour, a day or in total; without a limit they are only counted.

    `per` says whose runs: those of one user, of one session, of this agent, or of all agents with such a limit. A run
    that has no user or no session is not counted there. Hours and days are those of UTC, by the store's clock; a total
    is forgotten when nothing was added for 35 days. What stands of `RunLimits` holds here too: it is looked at before
    the model is asked, and counted with each commit, so it is passed by no more than the replies that are under way.
    Raises `InvalidInput`.
    """

    per: Per = "user"
    window: Window = "day"
    tokens: int | None = None
    cost_usd: float | None = None
    iterations: int | None = None
    on_reached: OnReached = "fail"

    def __post_init__(self) -> None:
        _check_choice(self.per, "per", get_args(Per))
        _check_choice(self.window, "window", get_args(Window))
        _check_amounts(self, ("tokens", "iterations"), ("cost_usd",))
        _check_choice(self.on_reached, "on_reached", get_args(OnReached))

    def meter(self, *, agent: str, user_id: str | None, session_id: str | None) -> Meter | None:
        """Where such a run is counted."""
        of = {"user": user_id, "session": session_id, "agent": agent, "all": ""}[self.per]
        return None if of is None else Meter(self.per, of, self.window)


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted together. `at` is the number of a window since 1970; None is the one that the clock says."""

    per: Per
    of: str
    window: Window
    at: int | None = None

    @property
    def name(self) -> str:
        return f"{self.window}:{self.per}:{self.of}"

    @property
    def words(self) -> str:
        return "all runs together" if self.per == "all" else f"{self.per} {self.of}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What runs have used together. `left_ms` is how long the window goes on, 0 where it is over or has no end."""

    tokens: int = 0
    cost_nanousd: int = 0
    iterations: int = 0
    left_ms: int = 0

    @property
    def cost_usd(self) -> float:
        return self.cost_nanousd / _NANO

    def __bool__(self) -> bool:
        return bool(self.tokens or self.cost_nanousd or self.iterations)


@dataclass(frozen=True, slots=True)
class Shared:
    """A limit of runs together, where they are counted, and what they have used."""

    limit: SpendLimit
    meter: Meter
    spent: Spent


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands with its limits. Times are milliseconds; usage counts from the last retry."""

    limits: RunLimits | None = None
    tokens: int = 0
    cost_nanousd: int = 0
    iterations: int = 0
    wall_ms: float = 0
    idle_ms: float = 0
    shared: tuple[Shared, ...] = ()

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
    window: Window = "total"

    @property
    def text(self) -> str:
        window = {"total": "", "hour": " an hour", "day": " a day"}[self.window]
        return f"{self.of} has reached its limit {self.limit}={_shown(self.allowed)}{window}: {_shown(self.used)} used"


def reached(standing: Standing, *, asks_model: bool) -> Reached | None:
    """The first limit that forbids to go on. `asks_model`: the next thing would be to ask the model."""
    own = _reached_by_run(standing, standing.limits, asks_model=asks_model) if standing.limits else None
    if own is not None or not asks_model:
        return own
    return next((found for shared in standing.shared if (found := _reached_together(shared)) is not None), None)


def _reached_by_run(standing: Standing, limits: RunLimits, *, asks_model: bool) -> Reached | None:
    # In the units in which they are counted, so that a timer and this agree on when time is over.
    used: list[tuple[str, float, int]] = [("wall_s", standing.wall_ms, 1000), ("no_progress_s", standing.idle_ms, 1000)]
    if asks_model:
        used += _amounts(standing)
    for name, amount, unit in used:
        allowed = getattr(limits, name)
        if allowed is not None and amount >= allowed * unit:
            return Reached(name, "the run", _in(unit, amount), allowed, limits.on_reached or "fail")
    return None


def _reached_together(shared: Shared) -> Reached | None:
    limit = shared.limit
    for name, amount, unit in _amounts(shared.spent):
        allowed = getattr(limit, name)
        if allowed is not None and amount >= allowed * unit:
            left_ms = shared.spent.left_ms
            used = _in(unit, amount)
            return Reached(name, shared.meter.words, used, allowed, limit.on_reached, left_ms, limit.window)
    return None


def _amounts(used: Standing | Spent) -> list[tuple[str, float, int]]:
    """Name, amount and how many of its units make one of the limit's."""
    return [("tokens", used.tokens, 1), ("cost_usd", used.cost_nanousd, _NANO), ("iterations", used.iterations, 1)]


def _in(unit: int, amount: float) -> float:
    return amount if unit == 1 else amount / unit


def checked_spend(given: Any) -> tuple[SpendLimit, ...]:
    """What an agent was given, as limits. Raises `InvalidInput`."""
    if isinstance(given, SpendLimit) or not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidInput(f"spend must be a list of SpendLimit(...), not {given!r}", field="spend")
    for each in given:
        if not isinstance(each, SpendLimit):
            raise InvalidInput(f"spend has {each!r}, which is no SpendLimit(...)", field="spend")
    return tuple(given)


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
