"""Webhooks, for scripts whose answers are lost: each is sent twice, see lost_replies.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from agentq._ids import new_token
from agentq.webhooks import DeliveryState, Webhook

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from agentq.stores.redis import RedisStore
    from agentq.webhooks import Taken

_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_HOOKS = (
    Webhook("https://a.example", _SECRET, name="all"),
    Webhook("https://b.example", _SECRET, name="failures", events=["run.failed", "run.cancelled"], agents=["shop"]),
)


class TellsWebhooks:
    """The part of a world that tells webhooks. From the first of these on, every run that ends leaves messages."""

    store: RedisStore
    dice: random.Random
    advance: Callable[[], Awaitable[None]]

    async def do_take_webhooks(self) -> None:
        await self._take()

    async def do_settle_webhook(self) -> None:
        outbox, messages = self.store.webhooks, await self._take()
        if not messages:
            await self.advance()  # a run that ends leaves some
        for taken in messages:
            fate = self.dice.choice(("delivered", "failed", "dead", "lost"))
            if fate == "delivered":
                await outbox.delivered(taken)
            elif fate != "lost":
                # At once or much later: nothing becomes due between a sending and the next.
                delay_ms = self.dice.choice((0, 3_600_000)) if fate == "failed" else None
                await outbox.failed(taken, "answered 500", delay_ms=delay_ms)

    async def do_retry_webhooks(self) -> None:
        await self.do_settle_webhook()
        name = self.dice.choice(_HOOKS).name
        found = await self.store.webhooks.messages(name)
        ids = [each.message_id for each in found if self.dice.random() < 0.5]
        await self.store.webhooks.retry(name, [*ids, "msg_nowhere_1"], token=new_token())

    async def do_webhook_messages(self) -> None:
        await self.do_settle_webhook()
        for state in (None, *get_args(DeliveryState)):
            await self.store.webhooks.messages("all", state=state)

    async def do_forget_webhook(self) -> None:
        await self._publish()
        await self.store.webhooks.forget("failures")
        await self._publish()

    async def _publish(self) -> None:
        await self.store.webhooks.publish(_HOOKS)

    async def _take(self) -> Sequence[Taken]:
        await self._publish()
        name = self.dice.choice(_HOOKS).name
        return await self.store.webhooks.take(name, owner="w", token=new_token(), limit=self.dice.randint(1, 4))
