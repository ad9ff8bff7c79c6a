"""Delivering messages of webhooks: one signed POST for each attempt, and what becomes of it. Knows protocols only."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentq import _ids
from agentq._clock import SystemClock
from agentq.errors import AgentQError, InvalidInput, ProviderError, StoreUnavailable
from agentq.signing import secret_keys, signature_headers
from agentq.tools.secrets import secret_of
from agentq.webhooks import RETRY_S, body_of, message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentq._clock import Clock
    from agentq.stores.webhooks import Webhooks
    from agentq.webhooks import Taken, Webhook

logger = logging.getLogger(__name__)
# Standard Webhooks: 15 to 30 s. The lock of a message lasts longer.
TIMEOUT_S = 15.0
_CONNECT_S = 10.0
# So many at once to one webhook: a slow one takes no more of a worker than this.
AT_ONCE = 8
# To a server that asks for more patience than this it is the next attempt that tells.
_MAX_RETRY_AFTER_S = 86_400.0
# Those that failed together must not come back together.
_JITTER = 0.1
_GONE = 410
_MAX_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of an attempt. `status` is None where there was no answer."""

    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_refused_for_good(self) -> bool:
        return self.status == _GONE


class Post(Protocol):
    """How a message is sent. Never raises for what the server, or the way there, does."""

    async def __call__(self, webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt: ...


async def post_over_http(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Attempt:
    """Send a message. A redirect is an answer like any other that is no success: nobody is sent elsewhere with it."""
    from agentq.providers import _http
    from agentq.providers._failures import retry_after_s

    who = f"webhook {webhook.name}"
    # The patience of the connection is beyond ours, so that one sentence tells of both.
    patience_s = TIMEOUT_S + _CONNECT_S
    post = _http.Post(who, webhook.url, headers, body, connect_s=_CONNECT_S, idle_s=patience_s)
    try:
        async with asyncio.timeout(TIMEOUT_S), _http.connections.post(post) as answer:
            # Read, so that the connection can be used again.
            await answer.error_body()
    except TimeoutError:
        return Attempt(error=f"no answer within {TIMEOUT_S:g} s")
    except ProviderError as error:
        return Attempt(error=_shown(str(error).removeprefix(f"{who}: "), webhook))
    if 200 <= answer.status < 300:
        return Attempt(answer.status)
    return Attempt(answer.status, f"answered {answer.status}", retry_after_s(answer.headers))


def keys_of(webhook: Webhook, secret: Callable[[str], str | None]) -> tuple[bytes, ...]:
    """What its messages are signed with; `secret` gives the secret of a name. Raises `InvalidInput`."""
    if webhook.secret:
        return secret_keys(webhook.secret)
    name = webhook.secret_name
    if not (given := secret_of(secret, name)):
        raise InvalidInput(
            f"webhook {webhook.name} needs the secret {name}, which is not set; set it as an environment variable, "
            "or give AgentQ(secrets=...)",
            field="secrets",
        )
    return secret_keys(given, field=name)


async def send(
    webhook: Webhook, keys: Callable[[], tuple[bytes, ...]], message_id: str, body: bytes, *, clock: Clock, post: Post
) -> Attempt:
    """Sign a message with the keys of now, and send it."""
    try:
        signed = signature_headers(keys(), message_id, clock.now_ms() // 1000, body)
    except AgentQError as error:
        return Attempt(error=f"it cannot be signed: {error}")
    return await post(webhook, {"content-type": "application/json", "user-agent": "agentq", **signed}, body)


async def send_test(webhook: Webhook, keys: tuple[bytes, ...]) -> Attempt:
    """Send a message of the type `webhook.test`, once, in an event loop of its own."""
    clock, message_id = SystemClock(), f"msg_test_{_ids.new_token()}"
    body = message(message_id, "webhook.test", clock.now_ms(), {"webhook": webhook.name})
    return await send(webhook, lambda: keys, message_id, body, clock=clock, post=post_over_http)


class Delivering:
    """The messages of one webhook, for one worker: at most `AT_ONCE` are on their way at the same time."""

    def __init__(
        self,
        webhook: Webhook,
        outbox: Webhooks,
        keys: Callable[[], tuple[bytes, ...]],
        *,
        owner: str,
        clock: Clock | None = None,
        post: Post = post_over_http,
    ) -> None:
        self._webhook = webhook
        self._outbox = outbox
        self._keys = keys
        self._owner = owner
        self._clock = clock or SystemClock()
        self._post = post
        self._on_their_way: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()

    async def begin(self) -> None:
        """Begin to deliver all that is due; returns when the last of it is on its way. Raises `StoreUnavailable`."""
        # Two that take at once would both see the same room.
        async with self._taking:
            await self._begin()

    async def _begin(self) -> None:
        while True:
            free = AT_ONCE - len(self._on_their_way)
            if not free:
                await asyncio.wait(self._on_their_way, return_when=asyncio.FIRST_COMPLETED)
                continue
            taken = await self._outbox.take(self._webhook.name, owner=self._owner, token=_ids.new_token(), limit=free)
            for each in taken:
                task = asyncio.create_task(self._deliver(each), name=f"agentq-webhook {each.delivery.message_id}")
                self._on_their_way.add(task)
                task.add_done_callback(self._on_their_way.discard)
            if len(taken) < free:
                return

    async def finish(self) -> None:
        """Deliver all that is due, and wait for what becomes of it."""
        await self.begin()
        while self._on_their_way:
            await asyncio.wait(self._on_their_way)

    async def aclose(self, within_s: float) -> None:
        """Wait that long for what is on its way, and leave the rest: it is sent again when its lock has run out."""
        if self._on_their_way:
            await asyncio.wait(self._on_their_way, timeout=within_s)
        left = tuple(self._on_their_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _deliver(self, taken: Taken) -> None:
        delivery, name = taken.delivery, self._webhook.name
        extra = {"run_id": delivery.run_id, "webhook": name}
        try:
            body = body_of(taken, self._webhook)
            attempt = await send(
                self._webhook, self._keys, delivery.message_id, body, clock=self._clock, post=self._post
            )
            await self._settle(taken, attempt)
        except StoreUnavailable as error:
            logger.warning(
                "webhook %s: what became of %s cannot be written, so it is sent again: %s",
                name,
                delivery.message_id,
                error,
                extra=extra,
            )
        except Exception:  # one odd message must not end the others
            logger.exception("webhook %s: %s failed; it is tried again", name, delivery.message_id, extra=extra)

    async def _settle(self, taken: Taken, attempt: Attempt) -> None:
        delivery, name = taken.delivery, self._webhook.name
        extra = {"run_id": delivery.run_id, "webhook": name}
        if attempt.is_delivered:
            await self._outbox.delivered(taken)
            logger.debug("webhook %s: %s delivered", name, delivery.message_id, extra=extra)
            return
        delay_ms = None if attempt.is_refused_for_good else delay_after(delivery.attempts, attempt.retry_after_s)
        if not await self._outbox.failed(taken, attempt.error[:_MAX_ERROR_CHARS], delay_ms=delay_ms):
            return
        if delay_ms is None:
            logger.error(
                "webhook %s: %s is given up after attempt %d, %s; `agentq webhooks retry %s` tries it again",
                name,
                delivery.message_id,
                delivery.attempts,
                attempt.error,
                delivery.message_id,
                extra=extra,
            )
        else:
            logger.warning(
                "webhook %s: attempt %d of %s failed, %s; the next is in %.0f s",
                name,
                delivery.attempts,
                delivery.message_id,
                attempt.error,
                delay_ms / 1000,
                extra=extra,
            )


def delay_after(attempts: int, retry_after_s: float | None = None) -> int | None:
    """Milliseconds to the next attempt after so many; None where it was the last."""
    if attempts > len(RETRY_S):
        return None
    wait_s = RETRY_S[max(attempts, 1) - 1] * random.uniform(1, 1 + _JITTER)  # noqa: S311 - spreads, guards nothing
    return round(1000 * max(wait_s, min(retry_after_s or 0.0, _MAX_RETRY_AFTER_S)))


def _shown(text: str, webhook: Webhook) -> str:
    """What went wrong, without the address, which may be a secret."""
    return text.replace(webhook.url, webhook.where)
