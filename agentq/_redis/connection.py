"""Connections: one ordinary client a process; clients of their own for what blocks, subscribes or lives in a thread."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from agentq.errors import AccessRefused, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

# Everything that an event loop has to say goes out in pipelines (see pipeline.py), so few connections are needed.
_MAX_CONNECTIONS = 32
_CONNECT_TIMEOUT_S = 5.0
# A script never runs this long; a reply that is later than this will not come.
REPLY_TIMEOUT_S = 10.0
_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    # A replica that has not been promoted yet, or a master that was demoted.
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    OSError,
)
# Redis is there and writes nothing for now: it is full, so is its disk, its replicas are gone, a script hangs. Before
# version 7 it wraps the word into what it says of the script that met the error: "@user_script: 65: -OOM command …".
_NOT_NOW = re.compile(r"(?:^|@user_script: \d+: -)(?:OOM|MISCONF|NOREPLICAS|READONLY|MASTERDOWN|BUSY|CLUSTERDOWN) ")
# In place of "Authentication required." a connection that begins with HELLO gets a lecture on it.
_NO_PASSWORD = re.compile(r"HELLO must be called|Authentication required")
_NO_DATABASE = re.compile(r"DB index is out of range|invalid DB index", re.IGNORECASE)


class _Once(AsyncRetry):
    """One try. Before it raises, redis-py would connect again, in whichever task finds the connection broken."""

    async def call_with_retry(self, do: Callable[[], Awaitable[Any]], *_: Any, **__: Any) -> Any:
        return await do()


class Connection:
    """Clients for one Redis. Opens nothing until something is sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=_MAX_CONNECTIONS,
                timeout=REPLY_TIMEOUT_S,
                socket_connect_timeout=_CONNECT_TIMEOUT_S,
                socket_timeout=REPLY_TIMEOUT_S,
                # Every script is idempotent, so one re-send is safe; who wants to wait longer does it one level up.
                retry=AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), 1),
            )
        except ValueError as error:
            raise InvalidInput(
                f"redis_url {url!r} is not a Redis URL ({error}); write redis://[user:password@]host:port/number",
                field="redis_url",
            ) from error
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)

    @property
    def where(self) -> str:
        """Host, port and number of the database, without the password."""
        return place(self.client.connection_pool.connection_kwargs)

    def blocking_client(self) -> redis.asyncio.Redis:
        """A client for one connection that waits: no time limit on replies, nothing sent again behind our back."""
        return redis.asyncio.Redis.from_url(
            self.url, socket_timeout=None, retry=_Once(NoBackoff(), 0), **_keepalive(self.url)
        )

    def thread_client(self) -> redis.Redis:
        """A synchronous client for a thread of its own, with short time limits."""
        return redis.Redis.from_url(self.url, socket_timeout=2.0, retry=Retry(NoBackoff(), 0), **_keepalive(self.url))

    async def aclose(self) -> None:
        await self.client.aclose()


def place(options: Mapping[str, Any]) -> str:
    """Host, port and number of the database that the options of a connection pool name."""
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db') or 0}"


def _keepalive(url: str) -> dict[str, Any]:
    """How a connection that only waits finds out that the other side is gone. A Unix socket has no need of it."""
    if url.startswith("unix:"):
        return {}
    return {
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "socket_keepalive_options": {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
        if hasattr(socket, "TCP_KEEPIDLE")
        else {},
    }


@contextmanager
def redis_errors(where: str) -> Iterator[None]:
    """Turn "Redis is away" in all its forms, or full, into `StoreUnavailable`, and a wrong URL into what it is."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthenticationWrongNumberOfArgsError) as error:
        wants_one = _NO_PASSWORD.search(str(error))
        what = "wants a password, and none was given" if wants_one else f"refused the password: {error}"
        raise AccessRefused(f"Redis at {where} {what}") from error
    except _AWAY as error:
        raise StoreUnavailable(f"Redis at {where} cannot be reached: {error}") from error
    except redis.exceptions.OutOfMemoryError as error:
        raise StoreUnavailable(f"Redis at {where} is out of memory: {error}") from error
    except redis.exceptions.ResponseError as error:
        if _NOT_NOW.search(str(error)):
            raise StoreUnavailable(f"Redis at {where} writes nothing for now: {error}") from error
        if _NO_DATABASE.search(str(error)):
            raise InvalidInput(
                f"Redis at {where} has no database of that number; correct the end of the URL (REDIS_URL)",
                field="redis_url",
            ) from error
        raise
