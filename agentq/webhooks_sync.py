"""What a `Client` does with webhooks: the calls of webhooks_async.py, and they block."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._portal import Portal
    from agentq.webhooks import Delivery, DeliveryState, WebhookState
    from agentq.webhooks_async import KeepsWebhooks as Asynchronous


class KeepsWebhooks:
    """The part of `Client` that looks after webhooks."""

    _client: Asynchronous
    _portal: Portal

    def webhooks(self) -> tuple[WebhookState, ...]:
        """The webhooks that workers have made known within a week, by name, and how they do."""
        return self._portal.call(self._client.webhooks)

    def webhook_messages(
        self, webhook: str | None = None, *, state: DeliveryState | None = None, limit: int = 100
    ) -> tuple[Delivery, ...]:
        """Messages that were not delivered, of one webhook or all: the next to be tried first, those given up last.

        `state` is "pending" (not tried yet), "failed" (will be tried again) or "dead" (given up).
        Raises `WebhookNotFound`.
        """
        return self._portal.call(self._client.webhook_messages, webhook, state=state, limit=limit)

    def retry_webhook_messages(self, message_ids: Sequence[str] | None = None, *, webhook: str | None = None) -> int:
        """Try messages again at once, with all attempts anew; None are all that have failed. How many those are.

        One that is on its way at this moment is left alone. Raises `WebhookNotFound`.
        """
        return self._portal.call(self._client.retry_webhook_messages, message_ids, webhook=webhook)

    def forget_webhook(self, webhook: str) -> None:
        """Forget a webhook and its messages. One that a worker still has is known again within a minute.

        Raises `WebhookNotFound`.
        """
        self._portal.call(self._client.forget_webhook, webhook)
