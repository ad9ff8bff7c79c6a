"""The shared pub/sub connection outlives a bug: it is logged, and the connection is made anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from agentq._redis.hub import Hub, Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from agentq._redis.connection import Connection


class Server:
    """Stands for the connection, its clients and their pub/sub; `replies` come after each subscription."""

    where = "test:1/0"
    subscribed = True
    connection = None

    def __init__(self, *replies: list[Any]) -> None:
        self.replies = list(replies)

    def blocking_client(self) -> Server:
        return self

    def pubsub(self) -> Server:
        return self

    async def subscribe(self, *_: str) -> None: ...
    async def unsubscribe(self, *_: str) -> None: ...
    async def aclose(self) -> None: ...

    async def listen(self) -> AsyncIterator[Any]:
        for reply in self.replies.pop(0):
            yield reply
        await asyncio.Event().wait()


async def test_a_bug_is_logged_and_listeners_are_subscribed_anew(caplog: pytest.LogCaptureFixture):
    odd = {"type": "message", "channel": None, "data": b""}
    server = Server([odd], [{"type": "subscribe", "channel": b"c", "data": 1}])
    hub = Hub(cast("Connection", server))
    async with hub.listen("c") as inbox:
        assert await inbox.get(timeout_s=5) is Mark.RESYNC
    await hub.aclose()
    assert "the pub/sub connection to test:1/0 failed; it is made anew" in caplog.text
    assert "AttributeError" in caplog.text
