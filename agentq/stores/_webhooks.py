"""The outbox of webhooks as it stands in Redis; see `Webhooks` in webhooks.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.stores.webhooks import LOCK_MS
from agentq.webhooks import KEPT_MS, Delivery, Taken, WebhookState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentq._redis.keys import Keys
    from agentq._redis.pipeline import Pipeline
    from agentq._redis.scripts import Script
    from agentq.webhooks import DeliveryState, Webhook

# What is counted is of interest a while longer than what is delivered.
_COUNTS_MS = 30 * 86_400_000


class RedisWebhooks:
    """A hash for each message, and their ids by next attempt."""

    def __init__(self, pipeline: Pipeline, keys: Keys, scripts: Callable[[str], Script]) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._script = scripts

    async def publish(self, webhooks: Sequence[Webhook]) -> None:
        if webhooks:
            await self._pipeline.run(
                self._script("publish"),
                agents=self._keys.webhooks,
                ttl_ms=KEPT_MS,
                manifests=[item for each in webhooks for item in (each.name, each.registration())],
            )

    async def take(self, name: str, *, owner: str, token: str, limit: int) -> tuple[Taken, ...]:
        found = await self._pipeline.run(
            self._script("take_webhooks"),
            due=self._keys.webhook("due", name),
            taken=self._keys.webhook("taken", name, owner),
            prefix=self._keys.prefix,
            name=name,
            token=token,
            limit=limit,
            lock_ms=LOCK_MS,
        )
        return tuple(
            Taken(
                _delivery(name, message_id, at, raw), token, event or None, _fields(raw).get("asks"), metadata or None
            )
            for message_id, at, raw, event, metadata in found
        )

    async def delivered(self, taken: Taken) -> None:
        await self._settle(taken, "delivered")

    async def failed(self, taken: Taken, error: str, *, delay_ms: int | None) -> bool:
        outcome = "dead" if delay_ms is None else "failed"
        return await self._settle(taken, outcome, delay_ms=delay_ms or 0, error=error)

    async def _settle(self, taken: Taken, outcome: str, *, delay_ms: int = 0, error: str = "") -> bool:
        name, message_id = taken.delivery.webhook, taken.delivery.message_id
        (settled,) = await self._pipeline.run(
            self._script("settle_webhook"),
            message=self._keys.webhook("message", name, message_id),
            due=self._keys.webhook("due", name),
            dead=self._keys.webhook("dead", name),
            counts=self._keys.webhook("counts", name),
            message_id=message_id,
            token=taken.token,
            outcome=outcome,
            delay_ms=delay_ms,
            error=error,
            counts_ms=_COUNTS_MS,
        )
        return bool(settled)

    async def known(self) -> tuple[WebhookState, ...]:
        raw: Mapping[bytes, bytes]
        seconds: bytes
        raw, (seconds, _) = await asyncio.gather(
            self._pipeline.execute("HGETALL", self._keys.webhooks), self._pipeline.execute("TIME")
        )
        # One that no worker has any more stays in the hash until another is published.
        since = int(seconds) * 1000 - KEPT_MS
        told = {name.decode(): _json.loads(registration) for name, registration in sorted(raw.items())}
        return tuple(
            await asyncio.gather(
                *(self._state(name, each) for name, each in told.items() if each["published_ms"] > since)
            )
        )

    async def _state(self, name: str, told: Mapping[str, Any]) -> WebhookState:
        pending: int
        dead: int
        counts: Mapping[bytes, bytes]
        pending, dead, counts = await asyncio.gather(
            self._pipeline.execute("ZCARD", self._keys.webhook("due", name)),
            self._pipeline.execute("ZCARD", self._keys.webhook("dead", name)),
            self._pipeline.execute("HGETALL", self._keys.webhook("counts", name)),
        )
        return WebhookState(
            name,
            told["where"],
            tuple(told["events"]),
            tuple(told["agents"]),
            pending=pending,
            dead=dead,
            delivered=int(counts.get(b"delivered", 0)),
            delivered_ms=int(counts[b"delivered_at"]) if b"delivered_at" in counts else None,
            failed_ms=int(counts[b"failed_at"]) if b"failed_at" in counts else None,
            error=counts.get(b"error", b"").decode(),
            seen_ms=told["published_ms"],
        )

    async def messages(
        self, name: str, *, state: DeliveryState | None = None, limit: int = 100
    ) -> tuple[Delivery, ...]:
        return await self._read(name, state or "all", limit)

    async def message(self, name: str, message_id: str) -> Delivery | None:
        return next(iter(await self._read(name, f"={message_id}", 1)), None)

    async def _read(self, name: str, which: str, limit: int) -> tuple[Delivery, ...]:
        found = await self._pipeline.run(
            self._script("webhook_messages"),
            due=self._keys.webhook("due", name),
            dead=self._keys.webhook("dead", name),
            prefix=self._keys.prefix,
            name=name,
            which=which,
            limit=limit,
        )
        return tuple(_delivery(name, message_id, at, raw) for message_id, at, raw in found)

    async def retry(self, name: str, message_ids: Sequence[str], *, token: str) -> int:
        (count,) = await self._pipeline.run(
            self._script("retry_webhooks"),
            due=self._keys.webhook("due", name),
            dead=self._keys.webhook("dead", name),
            prefix=self._keys.prefix,
            name=name,
            token=token,
            message_ids=message_ids,
        )
        return int(count)

    async def forget(self, name: str) -> None:
        await self._pipeline.run(
            self._script("forget_webhook"),
            webhooks=self._keys.webhooks,
            due=self._keys.webhook("due", name),
            dead=self._keys.webhook("dead", name),
            counts=self._keys.webhook("counts", name),
            name=name,
        )


def _fields(raw: Sequence[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(raw[::2], raw[1::2], strict=True)}


def _delivery(name: str, message_id: bytes, at: bytes | float, raw: Sequence[bytes]) -> Delivery:
    of = {field: value.decode() for field, value in _fields(raw).items()}
    return Delivery(
        name,
        message_id.decode(),
        of["type"],
        of["run"],
        of["agent"],
        int(of["at"]),
        seq=int(of["seq"]),
        attempts=int(of.get("attempts", 0)),
        # A score is a text or a number, as the version of the protocol has it.
        next_ms=None if at == b"" else int(float(at)),
        error=of.get("error", ""),
        session_id=of.get("session"),
        user_id=of.get("user"),
        parent_run_id=of.get("parent"),
    )
