"""From the store's data to what the scripts take, and from what they answer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.events.encoding import encode_event, is_delta
from agentq.events.model import Event, ReplyCompleted
from agentq.limits import KEPT_MS, WINDOW_MS, Spent
from agentq.stores.base import Renewal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentq.limits import Meter
    from agentq.stores.base import Commit, EventBatch, Firing, Lease, Wakeup
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


def spent(commit: Commit) -> list[str | int]:
    """What a commit adds to the meters, as `_spend.lua` takes it; nothing where there is nothing to add."""
    if not (commit.meters and commit.spent):
        return []
    amounts = [commit.spent.tokens, commit.spent.cost_nanousd, commit.spent.iterations]
    return [*amounts, *(item for each in commit.meters for item in _counted(each))]


def _counted(meter: Meter) -> tuple[str | int, ...]:
    return meter.name, WINDOW_MS[meter.window], KEPT_MS[meter.window]


def meters(meters: Sequence[Meter]) -> list[str | int]:
    """Name, length of the window and its number, of each."""
    return [item for each in meters for item in (each.name, WINDOW_MS[each.window], "" if each.at is None else each.at)]


def spent_of(answers: Any) -> tuple[Spent, ...]:
    return tuple(Spent(*(int(amount or 0) for amount in answer)) for answer in answers)


def firing(fired: Firing | None) -> list[str]:
    """The firing of a schedule as the script takes it."""
    if fired is None:
        return []
    return [
        fired.schedule,
        str(fired.seen_ms),
        str(fired.slot_ms),
        str(fired.next_ms),
        str(int(fired.skips_open)),
    ]
