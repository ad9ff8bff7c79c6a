"""What a tool says of its calls: what repeating one does, what stops it, and who knows what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypedDict, get_args

from agentq.errors import InvalidInput
from agentq.tools.rates import CircuitBreaker, RateLimit

Effect = Literal["none", "idempotent", "once"]
"""What repeating a call does: nothing but read, the same as doing it once, or harm."""
OnUnknown = Literal["tell", "ask"]
"""Who hears that nobody knows what became of a call: the model, or a person."""
OnInterrupt = Literal["cancel", "block"]
"""What happens to a call that is being made when its run is cancelled, or a call beside it fails: stop it, or not."""


# With the backoff doubling, more would hold a slot for hours.
_MAX_RETRIES = 10


class Reconciled(Enum):
    """What became of a call that had started and whose worker died, where it is not its result."""

    DID_NOT_HAPPEN = "did_not_happen"
    UNKNOWN = "unknown"


# Called with the context and the arguments of the call, and may be async. Returns what the tool would have returned.
Reconcile = Callable[..., Any]


class Permission(Enum):
    """What a `permission` hook says of a call. A text in place of these is the reason why it is denied."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


# Called with the context and the arguments as the function gets them, and may be async. `validate` returns None, or
# arguments in their place, and refuses by ValueError or ToolError.
Validate = Callable[..., Any]
Permit = Callable[..., Any]
# Called with the arguments of a call as attributes.
NeedsApproval = Callable[[Any], Any]
# Called with the arguments of a call.
ConcurrencySafe = Callable[[Mapping[str, Any]], bool]


class ToolOptions(TypedDict, total=False):
    """The keywords of `@tool` that say how a tool behaves; see `tool`."""

    effect: Effect | None
    timeout: float | None
    interrupt: OnInterrupt | None
    reconcile: Reconcile | None
    on_unknown: OnUnknown | None
    validate: Validate | None
    permission: Permit | None
    retries: int
    retry_backoff_s: float
    max_result_chars: int | None
    concurrency_safe: bool | ConcurrencySafe | None
    read_only: bool | None
    destructive: bool
    secrets: Sequence[str]
    rate_limit: str | RateLimit | None
    breaker: CircuitBreaker | None
    approval: bool | NeedsApproval
    approval_ttl: float | None
    approvers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`ToolOptions`, checked and with what holds where nothing was said. `timeout_s` is in seconds."""

    effect: Effect
    declared_effect: bool
    timeout_s: float | None
    interrupt: OnInterrupt
    stops_with_siblings: bool
    reconcile: Reconcile | None
    on_unknown: OnUnknown
    validate: Validate | None
    permission: Permit | None
    retries: int
    retry_backoff_s: float
    max_result_chars: int | None
    concurrency_safe: bool | ConcurrencySafe
    read_only: bool
    destructive: bool
    secrets: tuple[str, ...]
    rate_limit: RateLimit | None
    breaker: CircuitBreaker | None
    approval: bool | NeedsApproval
    approval_ttl: float | None
    approvers: tuple[str, ...]

    @property
    def is_gated(self) -> bool:
        """Whether a call has to pass something before it is made, beyond its arguments."""
        return self.has_checks or self.is_admitted or self.approval is not False

    @property
    def is_admitted(self) -> bool:
        """Whether a call has to be admitted: by a rate limit or a breaker."""
        return self.rate_limit is not None or self.breaker is not None

    @property
    def has_checks(self) -> bool:
        """Whether a call is looked at before it is made, beyond its arguments."""
        return self.validate is not None or self.permission is not None


def behaviour(
    *,
    effect: Effect | None = None,
    timeout: float | None = None,
    interrupt: OnInterrupt | None = None,
    reconcile: Reconcile | None = None,
    on_unknown: OnUnknown | None = None,
    validate: Validate | None = None,
    permission: Permit | None = None,
    retries: int = 0,
    retry_backoff_s: float = 0.5,
    max_result_chars: int | None = None,
    concurrency_safe: bool | ConcurrencySafe | None = None,
    read_only: bool | None = None,
    destructive: bool = False,
    secrets: Sequence[str] = (),
    rate_limit: str | RateLimit | None = None,
    breaker: CircuitBreaker | None = None,
    approval: bool | NeedsApproval = False,
    approval_ttl: float | None = None,
    approvers: Sequence[str] = (),
) -> Behaviour:
    """Check the options. Raises `InvalidInput`, naming the field."""
    _check_word(effect, Effect, field="effect")
    _check_word(interrupt, OnInterrupt, field="interrupt")
    _check_word(on_unknown, OnUnknown, field="on_unknown")
    _check_timeout(timeout)
    for field, hook in (("reconcile", reconcile), ("validate", validate), ("permission", permission)):
        if hook is not None and not callable(hook):
            raise InvalidInput(
                f"{field} must be a function of the context and the arguments, not {hook!r}", field=field
            )
    for field, value in (("reconcile", reconcile), ("on_unknown", on_unknown)):
        if value is not None and effect in ("none", "idempotent"):
            raise InvalidInput(
                f'{field} is for tools with effect="once": a call with effect="{effect}" is just made again',
                field=field,
            )
    if not (concurrency_safe is None or isinstance(concurrency_safe, bool) or callable(concurrency_safe)):
        raise InvalidInput(
            f"concurrency_safe must be True, False or a function of the arguments, not {concurrency_safe!r}",
            field="concurrency_safe",
        )
    _check_numbers(retries, retry_backoff_s, max_result_chars)
    if retries and effect not in ("none", "idempotent"):
        raise InvalidInput(
            'retries is for tools with effect="none" or "idempotent": a call with another effect must not be repeated',
            field="retries",
        )
    if destructive and (read_only or effect == "none"):
        raise InvalidInput("a tool that only reads is not destructive", field="destructive")
    return Behaviour(
        effect=effect or "once",
        declared_effect=effect is not None,
        timeout_s=None if timeout is None else float(timeout),
        interrupt=interrupt or ("cancel" if effect == "none" else "block"),
        # Said, not by default: what only reads may be stopped, but mostly is of use whatever happens beside it.
        stops_with_siblings=interrupt == "cancel",
        reconcile=reconcile,
        on_unknown=on_unknown or "tell",
        validate=validate,
        permission=permission,
        retries=retries,
        retry_backoff_s=float(retry_backoff_s),
        max_result_chars=max_result_chars,
        concurrency_safe=effect == "none" if concurrency_safe is None else concurrency_safe,
        read_only=effect == "none" if read_only is None else read_only,
        destructive=destructive,
        secrets=_checked_names(secrets, field="secrets"),
        rate_limit=_checked_rate(rate_limit),
        breaker=_checked_breaker(breaker),
        approval=_checked_approval(approval),
        approval_ttl=_checked_ttl(approval_ttl),
        approvers=_checked_names(approvers, field="approvers"),
    )


def _checked_approval(approval: bool | NeedsApproval) -> bool | NeedsApproval:
    if not isinstance(approval, bool) and not callable(approval):
        raise InvalidInput(
            f"approval must be True, False or a function of the arguments, not {approval!r}", field="approval"
        )
    return approval


def _checked_ttl(approval_ttl: Any) -> float | None:
    if approval_ttl is None:
        return None
    if isinstance(approval_ttl, bool) or not isinstance(approval_ttl, int | float) or not 0 < approval_ttl < math.inf:
        raise InvalidInput(f"approval_ttl must be seconds above 0, not {approval_ttl!r}", field="approval_ttl")
    return float(approval_ttl)


def _checked_rate(rate_limit: Any) -> RateLimit | None:
    return rate_limit if rate_limit is None or isinstance(rate_limit, RateLimit) else RateLimit(rate_limit)


def _checked_breaker(breaker: Any) -> CircuitBreaker | None:
    if breaker is not None and not isinstance(breaker, CircuitBreaker):
        raise InvalidInput(f"breaker must be a CircuitBreaker, not {breaker!r}", field="breaker")
    return breaker


def _checked_names(given: Any, *, field: str) -> tuple[str, ...]:
    if isinstance(given, str):
        raise InvalidInput(f"{field} must be a list of names: [{given!r}]", field=field)
    names = tuple(given)
    if odd := [name for name in names if not isinstance(name, str) or not name]:
        raise InvalidInput(f"{field} has {odd[0]!r}, which is no name", field=field)
    return names


def _check_numbers(retries: Any, retry_backoff_s: Any, max_result_chars: Any) -> None:
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MAX_RETRIES:
        raise InvalidInput(f"retries must be from 0 to {_MAX_RETRIES}, not {retries!r}", field="retries")
    if isinstance(retry_backoff_s, bool) or not isinstance(retry_backoff_s, int | float) or not retry_backoff_s >= 0:
        raise InvalidInput(f"retry_backoff_s must be seconds, not {retry_backoff_s!r}", field="retry_backoff_s")
    if max_result_chars is not None and (
        isinstance(max_result_chars, bool) or not isinstance(max_result_chars, int) or max_result_chars < 1
    ):
        raise InvalidInput(f"max_result_chars must be at least 1, not {max_result_chars!r}", field="max_result_chars")


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
