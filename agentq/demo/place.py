"""Where the demo takes place: a Redis, names that nobody else uses, and a folder. All of it is gone afterwards."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import redis
from rq import Queue
from rq.worker import BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from agentq._redis.connection import Connection, redis_errors
from agentq._redis.keys import Keys
from agentq.cli._output import remark
from agentq.private_redis import private_redis
from agentq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """`settings` name the Redis, and a prefix and a queue for this demo alone; `redis` and `warning` are for people."""

    folder: Path
    settings: Settings
    client: redis.Redis
    redis: str
    warning: str = ""

    def has_agents(self) -> bool:
        """Whether a worker has published its agents."""
        with redis_errors(Connection(self.settings.redis_url).where):
            return bool(self.client.exists(Keys(self.settings.prefix).agents))


@contextmanager
def place(redis_url: str | None) -> Iterator[Place]:
    """A place at `redis_url`, else on a Redis of its own. Raises `InvalidInput` and `StoreUnavailable`."""
    name = f"agentq-demo-{secrets.token_hex(3)}"
    with TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        if redis_url is None:
            with private_redis(folder) as own, _connected(own.url, name) as (settings, client, program, where):
                words = f"{'fakeredis' if own.warning else program}, private, at {where}"
                yield Place(folder, settings, client, words, own.warning)
        else:
            with _connected(redis_url, name) as (settings, client, program, where):
                try:
                    yield Place(folder, settings, client, f"{program}, yours, at {where}")
                finally:
                    _remove_traces(client, settings)


@contextmanager
def _connected(url: str, name: str) -> Iterator[tuple[Settings, redis.Redis, str, str]]:
    settings = Settings.load({"REDIS_URL": url, "AGENTQ_PREFIX": name, "AGENTQ_QUEUE": name})
    connection = Connection(url)
    with connection.thread_client() as client:
        with redis_errors(connection.where):
            program = _program(client)
        yield settings, client, program, connection.where


def _program(client: redis.Redis) -> str:
    """Name and version of the server."""
    try:
        info = client.info("server")
    except redis.ResponseError:  # fakeredis has no INFO; elsewhere it may be forbidden
        return "Redis"
    if "valkey_version" in info:
        return f"valkey-server {info['valkey_version']}"
    return f"redis-server {info['redis_version']}"


def _remove_traces(client: redis.Redis, settings: Settings) -> None:
    try:
        remove_traces(client, prefix=settings.prefix, queue=settings.queue)
    except redis.RedisError as error:
        remark("traces", f"keys with {settings.prefix} in their names are left in Redis ({error})", as_json=False)


def remove_traces(client: redis.Redis, *, prefix: str, queue: str) -> None:
    """Delete the keys under `prefix`, the queue with its jobs, and the records of workers that served it alone.

    Looks at the names of all keys of the database, and changes no other. Raises redis-py's exceptions.
    """
    Queue(queue, connection=client).delete(delete_jobs=True)
    for key in client.scan_iter(match=f"{prefix}:*", count=_PAGE):
        client.delete(key)
    # A worker that ended well has left its lists, but its record stays for a minute.
    for key in client.scan_iter(match=f"{BaseWorker.redis_worker_namespace_prefix}*", count=_PAGE):
        if client.type(key) == b"hash" and client.hget(key, "queues") == queue.encode():
            client.srem(BaseWorker.redis_workers_keys, key)
            client.delete(key)
    client.delete(WORKERS_BY_QUEUE_KEY % queue)
