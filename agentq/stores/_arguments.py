"""From the store's data to what the scripts take, and from what they answer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.events.encoding import encode_event, is_delta
from agentq.events.model import Event, ReplyCompleted
from agentq.stores.base import Renewal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentq.stores.base import EventBatch, Lease, Wakeup
    from agentq.stores.values import Change


def renewal(prefix: str, leases: Sequence[Lease], lease_ms: int) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "lease_ms": lease_ms,
        "run_ids": [lease.run_id for lease in leases],
        "fences": [str(lease.fence) for lease in leases],
        "owners": [lease.owner for lease in leases],
    }


def renewals(leases: Sequence[Lease], answers: Any) -> tuple[Renewal, ...]:
    return tuple(
        Renewal(lease.run_id, held=bool(held), signals=signals, cancel_requested=bool(cancelled))
        for lease, (held, signals, cancelled) in zip(leases, answers, strict=True)
    )


def template(wake: Wakeup | None) -> bytes:
    return wake.template if wake is not None else b""


def items(events: Sequence[Event]) -> list[bytes]:
    """Events as emit() takes them: deltas whose reply is completed in the same batch are `f`, folded from the start."""
    delta = b"f" if any(isinstance(event, ReplyCompleted) for event in events) else b"d"
    return [(delta if is_delta(event) else b"e") + encode_event(event) for event in events]


def ranges(batch: EventBatch) -> list[str]:
    return [f"{first}-{last}" for first, last in batch.fold]


def about(**named: str | None) -> str:
    """What an error is about: `key 'k1', session 's1'`, without those that are None."""
    return ", ".join(f"{name} {value!r}" for name, value in named.items() if value is not None)


def changes(changes: Iterable[Change]) -> list[str | bytes]:
    """Scope, name and value in turn; an empty value takes the name away."""
    return [item for change in changes for item in (change.scope, change.name, change.value or b"")]
