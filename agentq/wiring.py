"""Puts the Redis parts together: one connection, one hub, one store a process. The only place that does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq._redis.connection import Connection
from agentq._redis.hub import Hub
from agentq._redis.replication import Replication
from agentq.events.redis import RedisEventStream
from agentq.executors.queue import QueueExecutor
from agentq.stores._retention import Retention
from agentq.stores.redis import RedisStore

if TYPE_CHECKING:
    from agentq.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """What a client or a worker needs. Bound to one event loop; opens nothing before its first use."""

    store: RedisStore
    stream: RedisEventStream
    executor: QueueExecutor
    connection: Connection

    async def aclose(self) -> None:
        await self.store.aclose()
        await self.connection.aclose()


def redis_parts(settings: Settings, *, connection: Connection | None = None) -> Parts:
    """The parts for `settings.redis_url`. Raises `InvalidInput` when it is no Redis URL."""
    connection = connection or Connection(settings.redis_url)
    hub = Hub(connection)
    retention = Retention(settings.ttl_failed_ms, settings.session_ttl_ms)
    replication = None
    if settings.durability == "replicated":
        replication = Replication(settings.replication_timeout_ms, where=connection.where)
    store = RedisStore(connection, prefix=settings.prefix, hub=hub, retention=retention, replication=replication)
    stream = RedisEventStream(store.pipeline, hub, store.keys, store.messages)
    return Parts(store, stream, QueueExecutor(store, tenant_wakeups=settings.tenant_wakeups), connection)
