"""Values that tools and hooks keep beside the transcript, and values that all workers share for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentq.runs import RunState

Scope = Literal["run", "session", "user"]
"""Whose a value is: it lives as long as the run, as long as the session, or some time after its last change."""
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """`failures` calls in a row that fail, each within `window_ms` of the one before, stop all calls for `pause_ms`."""

    failures: int
    pause_ms: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Change:
    """A value to keep under `name`, as JSON; None takes the name away."""

    scope: Scope
    name: str
    value: bytes | None


def owner_of(scope: Scope, run: RunState) -> str | None:
    """The id of the run, its session or its user; None where it has none."""
    return {"run": run.run_id, "session": run.session_id, "user": run.user_id}[scope]


class Shared(Protocol):
    """Values that all workers share, each for a time. None of them is a run's: losing one costs no more than time.

    A store that has such is asked for them by its attribute `shared`.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, until its time is over."""
        ...

    async def set(self, key: str, value: bytes, *, ttl_ms: int) -> None:
        """Keep a value for so long."""
        ...

    async def delete(self, key: str) -> None:
        """Forget a value."""
        ...

    async def take(self, limits: str, of: Sequence[str]) -> float:
        """Count one use of what `of` names against the limits, such as "5/minute; 100/day".

        0 where it may be, else in how many seconds it may: then nothing was counted.
        """
        ...

    async def ask_breaker(self, key: str, rule: BreakerRule, *, token: str) -> int:
        """Whether the call `token` may be made: 0, or for how many milliseconds not. After a pause, one may try."""
        ...

    async def tell_breaker(self, key: str, rule: BreakerRule, *, failed: bool, token: str) -> None:
        """Tell how the call `token` went. Again: no effect."""
        ...


def apply(values: dict[str, bytes], changes: Iterable[Change]) -> None:
    """Make the changes to the values that they are about."""
    for change in changes:
        if change.value is None:
            values.pop(change.name, None)
        else:
            values[change.name] = change.value
