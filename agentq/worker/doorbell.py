"""Waiting for wake-ups without moving them, and the one signal that the claim loop sleeps on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from redis.exceptions import RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import redis.asyncio

    from agentq.worker.outage import Outage

logger = logging.getLogger(__name__)
# How long the server lets one wait last.
_BLOCK_S = 5
# A reply that is so much later than promised will not come: the network forgot the connection.
_OVERDUE_S = 5.0
_POLL_S = 0.01
_AFTER_BUG_S = 1.0


class Nudge:
    """Says that something may have changed. For one waiter, who looks again at everything."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return after a nudge since the last wait, or after `timeout_s`."""
        if not self._event.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._event.wait()
        self._event.clear()


class BlockingClients(Protocol):
    """Where a doorbell gets its connections: `agentq._redis.connection.Connection`."""

    def blocking_client(self) -> redis.asyncio.Redis: ...


class Doorbell:
    """Rings when one of the lists is not empty: once for each time it was armed.

    A list is watched by `BLMOVE key key LEFT LEFT` on a connection of its own, which waits until the list has an
    element and leaves it where it is. fakeredis loses that element; it is known by having no INFO, and is polled.
    """

    def __init__(self, connection: BlockingClients, keys: Sequence[str], *, nudge: Nudge, outage: Outage) -> None:
        self._connection = connection
        self._armed = {key: asyncio.Event() for key in keys}
        self._nudge = nudge
        self._outage = outage
        self._has_rung = False
        self._polls = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch(key), name=f"agentq-doorbell-{key}") for key in self._armed]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, *, without: Collection[str] = ()) -> None:
        """Ring as soon as a list is not empty, be it at once; not for those of `without`."""
        for key, armed in self._armed.items():
            if key in without:
                armed.clear()
            else:
                armed.set()

    def has_rung(self) -> bool:
        """Whether it rang since this was last asked."""
        rung, self._has_rung = self._has_rung, False
        return rung

    async def _watch(self, key: str) -> None:
        who = f"doorbell {key}"
        while True:
            client = self._connection.blocking_client()
            try:
                await self._ring(client, key, who)
            except (RedisError, OSError) as error:
                await asyncio.sleep(self._outage.failed(who, error))
            except Exception:  # a bell that is deaf for good would slow the worker down in silence
                logger.exception("%s failed; it goes on", who)
                await asyncio.sleep(_AFTER_BUG_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    async def _ring(self, client: redis.asyncio.Redis, key: str, who: str) -> None:
        """Ring whenever the list of `key` has something and the bell is armed. Ends by raising."""
        # Asked once: fakeredis ends a connection on which a command failed.
        self._polls = self._polls or not await _has_info(client)
        while True:
            self._outage.worked(who)
            await self._armed[key].wait()
            if await (_poll(client, key) if self._polls else _block(client, key)):
                self._armed[key].clear()
                self._has_rung = True
                self._nudge()


async def _has_info(client: redis.asyncio.Redis) -> bool:
    try:
        await client.info("server")
    except ResponseError as error:
        return "unknown command" not in str(error)
    return True


async def _block(client: redis.asyncio.Redis, key: str) -> bool:
    async with asyncio.timeout(_BLOCK_S + _OVERDUE_S):
        # redis-py types every command as "a value or an awaitable of it".
        return await cast("Any", client.blmove(key, key, _BLOCK_S, "LEFT", "LEFT")) is not None


async def _poll(client: redis.asyncio.Redis, key: str) -> bool:
    await asyncio.sleep(_POLL_S)
    return bool(await cast("Any", client.llen(key)))
