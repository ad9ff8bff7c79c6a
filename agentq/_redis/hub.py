"""One pub/sub connection for a whole process, shared by everybody who listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from agentq._ids import new_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from agentq._redis.connection import Connection

logger = logging.getLogger(__name__)
# A listener that is this far behind reads the stream again in place of what it missed.
_INBOX_LIMIT = 1_000
_RECONNECT_S = (0.05, 1.0)
_AFTER_BUG_S = 1.0


class Mark(Enum):
    """What stands in an inbox beside messages."""

    RESYNC = auto()


class Inbox:
    """What one listener has not read yet. `Mark.RESYNC` says that messages may be missing before it."""

    def __init__(self) -> None:
        self._items: deque[bytes | Mark] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: bytes | Mark) -> None:
        if len(self._items) >= _INBOX_LIMIT:
            self._items.clear()
            item = Mark.RESYNC
        self._items.append(item)
        self._arrived.set()

    async def get(self, timeout_s: float) -> bytes | Mark | None:
        """The next item, or None when nothing came for `timeout_s`."""
        if not self._items:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        return self._items.popleft() if self._items else None


class Hub:
    """Subscribes each channel once however many listen; after every (re)subscription all its listeners get a mark."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inboxes: dict[str, set[Inbox]] = {}
        # A channel nobody publishes on keeps the connection in subscribed mode when no one listens.
        self._own_channel = f"hub:{new_token()}"
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._task: asyncio.Task[None] | None = None
        self._commanding = asyncio.Lock()
        self._delay_s = _RECONNECT_S[0]
        self._is_connected = False

    @contextlib.asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Inbox]:
        """Listen to a channel. The first item is the mark that says: from here on nothing is missed."""
        inbox = Inbox()
        inboxes = self._inboxes.setdefault(channel, set())
        inboxes.add(inbox)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="agentq-hub")
            elif len(inboxes) == 1:
                await self._command("subscribe", channel)
            else:
                # The channel is subscribed, or will be, in which case one more mark comes: reading twice does no harm.
                inbox.put(Mark.RESYNC)
            yield inbox
        finally:
            inboxes.discard(inbox)
            if not inboxes and self._inboxes.get(channel) is inboxes:
                del self._inboxes[channel]
                await self._command("unsubscribe", channel)

    async def _command(self, name: str, channel: str) -> None:
        if self._pubsub is None or not self._pubsub.subscribed:
            # It is being connected, see `_subscribe`.
            return
        try:
            async with self._commanding:
                connection: Any = getattr(self._pubsub, "connection", None)
                # A command on a connection that is broken would make a new one, and so would the reading task.
                if connection is not None and connection.is_connected:
                    await getattr(self._pubsub, name)(channel)
        except (RedisError, OSError):
            # The reading task finds the connection broken and subscribes everything anew.
            logger.debug("pub/sub connection lost while asking to %s", name)

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except (RedisError, OSError) as error:
                self._tell_lost(error)
            except Exception:  # nobody would hear anything any more
                logger.exception("the pub/sub connection to %s failed; it is made anew", self._connection.where)
                self._delay_s = _AFTER_BUG_S
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(self._delay_s * 2, _RECONNECT_S[1])

    async def _read(self) -> None:
        """Connect, subscribe and deliver what comes. Ends by raising."""
        client = self._connection.blocking_client()
        try:
            self._pubsub = client.pubsub()
            await self._subscribe(self._pubsub)
            async for message in self._pubsub.listen():
                self._delay_s, self._is_connected = _RECONNECT_S[0], True
                self._deliver(message)
        finally:
            pubsub, self._pubsub = self._pubsub, None
            # A command that is under way would connect again what is closed here.
            async with self._commanding:
                with contextlib.suppress(RedisError, OSError):
                    if pubsub is not None:
                        await pubsub.aclose()  # type: ignore[no-untyped-call]
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    def _tell_lost(self, error: Exception) -> None:
        """Log the loss of a connection once. Tries in vain are for those who debug: commands fail at the same time."""
        if self._is_connected:
            self._is_connected = False
            logger.info("pub/sub connection to %s lost; connecting again", self._connection.where)
        logger.debug("no pub/sub connection: %s", error)

    async def _subscribe(self, pubsub: redis.asyncio.client.PubSub) -> None:
        """Subscribe all channels, those too whose listeners came or went while the connection was being made."""
        asked = set(self._inboxes)
        await pubsub.subscribe(self._own_channel, *asked)
        if late := self._inboxes.keys() - asked:
            await pubsub.subscribe(*late)
        if left := asked - self._inboxes.keys():
            await pubsub.unsubscribe(*left)

    def _deliver(self, message: dict[str, Any]) -> None:
        inboxes = self._inboxes.get(message["channel"].decode(), ())
        if message["type"] == "message":
            for inbox in inboxes:
                inbox.put(message["data"])
        elif message["type"] == "subscribe":
            for inbox in inboxes:
                inbox.put(Mark.RESYNC)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
