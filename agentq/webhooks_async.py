"""What an `AsyncClient` does with webhooks: look at what was not delivered, try it again, forget one."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from agentq import _ids
from agentq.errors import InvalidInput, WebhookNotFound
from agentq.intake import checked_limit
from agentq.settings import check_name
from agentq.webhooks import STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.stores.webhooks import Webhooks
    from agentq.webhooks import Delivery, DeliveryState, WebhookState

# So many messages are tried again with one script.
_PAGE = 500


class KeepsWebhooks:
    """The part of `AsyncClient` that looks after webhooks. Workers deliver."""

    @abstractmethod
    def _parts(self) -> Any: ...

    async def webhooks(self) -> tuple[WebhookState, ...]:
        """The webhooks that workers have made known within a week, by name, and how they do."""
        return await self._outbox().known()

    async def webhook_messages(
        self, webhook: str | None = None, *, state: DeliveryState | None = None, limit: int = 100
    ) -> tuple[Delivery, ...]:
        """Messages that were not delivered, of one webhook or all: the next to be tried first, those given up last.

        `state` is "pending" (not tried yet), "failed" (will be tried again) or "dead" (given up).
        Raises `WebhookNotFound`.
        """
        if state is not None and state not in STATES:
            raise InvalidInput(f"state must be one of {', '.join(STATES)}, not {state!r}", field="state")
        limit = checked_limit(limit)
        found: list[Delivery] = []
        for name in await self._names(webhook):
            found += await self._outbox().messages(name, state=state, limit=limit)
        return tuple(sorted(found, key=lambda each: each.next_ms or float("inf"))[:limit])

    async def retry_webhook_messages(
        self, message_ids: Sequence[str] | None = None, *, webhook: str | None = None
    ) -> int:
        """Try messages again at once, with all attempts anew; None are all that have failed. How many those are.

        One that is on its way at this moment is left alone. Raises `WebhookNotFound`.
        """
        names, outbox = await self._names(webhook), self._outbox()
        if message_ids is None:
            return sum([await self._retry_failed(name) for name in names])
        wanted = _checked_ids(message_ids)
        for message_id in wanted:
            if not any([await outbox.message(name, message_id) for name in names]):
                raise WebhookNotFound(f"no message {message_id} waits; it was delivered, or its time has passed")
        return sum([await outbox.retry(name, wanted, token=_ids.new_token()) for name in names])

    async def forget_webhook(self, webhook: str) -> None:
        """Forget a webhook and its messages. One that a worker still has is known again within a minute.

        Raises `WebhookNotFound`.
        """
        (name,) = await self._names(webhook)
        await self._outbox().forget(name)

    def _outbox(self) -> Webhooks:
        outbox: Webhooks | None = getattr(self._parts().store, "webhooks", None)
        if outbox is None:
            raise InvalidInput("this store has no webhooks", field="store")
        return outbox

    async def _names(self, webhook: str | None) -> tuple[str, ...]:
        if webhook is not None:
            check_name(webhook, field="webhook")
        known = tuple(state.name for state in await self._outbox().known())
        if webhook is None:
            return known
        if webhook not in known:
            listed = ", ".join(known) or "none"
            raise WebhookNotFound(f"no worker has a webhook named {webhook!r}; there are: {listed}")
        return (webhook,)

    async def _retry_failed(self, name: str) -> int:
        outbox, count = self._outbox(), 0
        seen: set[str] = set()
        for state in ("failed", "dead"):
            while True:
                found = await outbox.messages(name, state=state, limit=_PAGE)
                # One that has failed again by now was tried again.
                new = [each.message_id for each in found if each.message_id not in seen]
                if not new:
                    break
                seen.update(new)
                count += await outbox.retry(name, new, token=_ids.new_token())
        return count


def _checked_ids(message_ids: Sequence[str]) -> tuple[str, ...]:
    if isinstance(message_ids, str) or not all(isinstance(each, str) for each in message_ids):
        raise InvalidInput("message_ids must be a list of ids, such as ['msg_..._3']", field="message_ids")
    return tuple(dict.fromkeys(message_ids))
