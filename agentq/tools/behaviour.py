"""What a tool says of its calls: what repeating one does, what stops it, and who knows what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypedDict, get_args

from agentq.errors import InvalidInput

Effect = Literal["none", "idempotent", "once"]
"""What repeating a call does: nothing but read, the same as doing it once, or harm."""
OnUnknown = Literal["tell", "ask"]
"""Who hears that nobody knows what became of a call: the model, or a person."""
OnInterrupt = Literal["cancel", "block"]
"""What a cancelled run does with a call that is being made: stop it, or wait for its end."""


class Reconciled(Enum):
    """What became of a call that had started and whose worker died, where it is not its result."""

    DID_NOT_HAPPEN = "did_not_happen"
    UNKNOWN = "unknown"


# Called with the context and the arguments of the call, and may be async. Returns what the tool would have returned.
Reconcile = Callable[..., Any]


class ToolOptions(TypedDict, total=False):
    """The keywords of `@tool` that say how a tool behaves; see `tool`."""

    effect: Effect | None
    timeout: float | None
    interrupt: OnInterrupt | None
    reconcile: Reconcile | None
    on_unknown: OnUnknown | None


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`ToolOptions`, checked and with what holds where nothing was said. `timeout_s` is in seconds."""

    effect: Effect
    declared_effect: bool
    timeout_s: float | None
    interrupt: OnInterrupt
    reconcile: Reconcile | None
    on_unknown: OnUnknown


def behaviour(
    *,
    effect: Effect | None = None,
    timeout: float | None = None,
    interrupt: OnInterrupt | None = None,
    reconcile: Reconcile | None = None,
    on_unknown: OnUnknown | None = None,
) -> Behaviour:
    """Check the options. Raises `InvalidInput`, naming the field."""
    _check_word(effect, Effect, field="effect")
    _check_word(interrupt, OnInterrupt, field="interrupt")
    _check_word(on_unknown, OnUnknown, field="on_unknown")
    _check_timeout(timeout)
    if reconcile is not None and not callable(reconcile):
        raise InvalidInput(
            f"reconcile must be a function of the context and the arguments, not {reconcile!r}", field="reconcile"
        )
    for field, value in (("reconcile", reconcile), ("on_unknown", on_unknown)):
        if value is not None and effect in ("none", "idempotent"):
            raise InvalidInput(
                f'{field} is for tools with effect="once": a call with effect="{effect}" is just made again',
                field=field,
            )
    return Behaviour(
        effect=effect or "once",
        declared_effect=effect is not None,
        timeout_s=None if timeout is None else float(timeout),
        interrupt=interrupt or ("cancel" if effect == "none" else "block"),
        reconcile=reconcile,
        on_unknown=on_unknown or "tell",
    )


def _check_word(value: Any, words: Any, *, field: str) -> None:
    known = get_args(words)
    if value is not None and value not in known:
        listed = " or ".join([", ".join(f'"{word}"' for word in known[:-1]), f'"{known[-1]}"'])
        raise InvalidInput(f"{field} must be {listed}, not {value!r}", field=field)


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise InvalidInput(
            f"timeout must be a number of seconds above 0, or None for no limit, not {timeout!r}", field="timeout"
        )
