"""A connection to fakeredis, for fast tests. What blocks is not faked well: use a real server for workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fakeredis

from agentq._redis.connection import Connection

if TYPE_CHECKING:
    import redis
    import redis.asyncio


class FakeConnection(Connection):
    """All its clients talk to one fake server in this process."""

    def __init__(self) -> None:
        super().__init__("redis://fake:6379/0")
        self._server = fakeredis.FakeServer()
        self.client = fakeredis.FakeAsyncRedis(server=self._server)

    def blocking_client(self) -> redis.asyncio.Redis:
        return fakeredis.FakeAsyncRedis(server=self._server)

    def thread_client(self) -> redis.Redis:
        return fakeredis.FakeRedis(server=self._server)
