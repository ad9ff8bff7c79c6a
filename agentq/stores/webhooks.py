"""The `Webhooks` protocol: the outbox of a store, under its attribute `webhooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agentq import _json
from agentq.runs import FOR_PEOPLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.stores.data import Rest
    from agentq.webhooks import Delivery, DeliveryState, Taken, Webhook, WebhookState

# How long a holder has for an attempt, before another may make the next.
LOCK_MS = 60_000
# Of a question, what a message holds; who wants more reads the run.
_MAX_QUESTION = 2_000


class Webhooks(Protocol):
    """Messages for webhooks that `Store.commit` and `Store.release` leave, with the change of the status or not at all.

    A commit that makes a run final leaves one for each webhook that wants it; so does a release, of a run that waits
    for people and asks what was not told before. Every call is idempotent.
    """

    async def publish(self, webhooks: Sequence[Webhook]) -> None:
        """Make webhooks known for a week: from now on they are told. To be repeated well within that."""
        ...

    async def take(self, name: str, *, owner: str, token: str, limit: int) -> tuple[Taken, ...]:
        """Take messages that are due, for one attempt each, that is counted. They are the owner's for `LOCK_MS`.

        The same token of the same owner: the same messages.
        """
        ...

    async def delivered(self, taken: Taken) -> None:
        """The message has come through: it goes, whoever has it by now."""
        ...

    async def failed(self, taken: Taken, error: str, *, delay_ms: int | None) -> bool:
        """It has not: it is due again after `delay_ms`, or, with None, given up. False: somebody else has it."""
        ...

    async def known(self) -> tuple[WebhookState, ...]:
        """All webhooks that were made known, by name."""
        ...

    async def messages(
        self, name: str, *, state: DeliveryState | None = None, limit: int = 100
    ) -> tuple[Delivery, ...]:
        """Messages that were not delivered, the next to be tried first, those that were given up last."""
        ...

    async def message(self, name: str, message_id: str) -> Delivery | None:
        """One of them."""
        ...

    async def retry(self, name: str, message_ids: Sequence[str], *, token: str) -> int:
        """Make messages due at once, with all attempts anew; how many. Those that somebody holds are left alone."""
        ...

    async def forget(self, name: str) -> None:
        """Forget a webhook and what was to be delivered to it."""
        ...


def asks_of(rest: Rest | None) -> bytes:
    """What a run that rests asks people, as JSON for a message; nothing where it asks none. Without arguments."""
    asked = [] if rest is None else [each for each in rest.questions if each.kind in FOR_PEOPLE]
    if not asked:
        return b""
    return _json.dumps(
        [
            {
                "call_id": each.call_id,
                "number": each.number,
                "kind": each.kind,
                "tool": each.tool,
                "text": each.text[:_MAX_QUESTION],
                "approvers": list(each.approvers),
                "until_ms": each.until_ms or None,
            }
            for each in asked
        ]
    )
