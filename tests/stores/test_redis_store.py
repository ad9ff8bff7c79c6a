"""The Redis store passes the contract, on fakeredis and on a real server; and what only it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq.testing import StoreContract, StreamContract
from agentq.testing.fake_redis import FakeConnection
from tests.stores.redis_parts import TimedParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentq.events.redis import RedisEventStream
    from agentq.stores.redis import RedisStore
    from agentq.testing._contract import PassTime


class _OnRedis(StoreContract, StreamContract):
    """What both servers share: the parts, made and closed around each test."""

    @pytest.fixture
    def connect(self) -> Callable[[], Connection]:
        raise NotImplementedError("each server has its own")

    @pytest.fixture
    async def parts(self, connect: Callable[[], Connection]) -> AsyncIterator[TimedParts]:
        parts = TimedParts(connect())
        yield parts
        await parts.aclose()

    @pytest.fixture
    def store(self, parts: TimedParts) -> RedisStore:
        return parts.store

    @pytest.fixture
    def stream(self, parts: TimedParts) -> RedisEventStream:
        return parts.stream

    @pytest.fixture
    def pass_time(self, parts: TimedParts) -> PassTime:
        return parts.pass_time


class TestRedisStoreOnFakeRedis(_OnRedis):
    @pytest.fixture
    def connect(self) -> Callable[[], Connection]:
        return FakeConnection


class TestRedisStoreOnRedis(_OnRedis):
    @pytest.fixture
    def connect(self, redis_url: str) -> Callable[[], Connection]:
        return lambda: Connection(redis_url)


del _OnRedis
