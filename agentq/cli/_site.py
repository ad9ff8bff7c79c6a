"""Serving the site from a command: a socket that is ours, and a server that leaves signals to the command."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import uvicorn
    from starlette.types import ASGIApp

PORT = 8000
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Streams lose nothing when they are cut: their viewers come back with a cursor.
_GRACE_S = 5
_BACKLOG = 2048


def bound(host: str, port: int, *, or_any: bool = False) -> socket.socket:
    """A socket that listens there, or at a free port with `or_any`. Raises `InvalidInput` that names the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in (port, 0) if or_any else (port,):
        try:
            return socket.create_server((host, each), family=family, backlog=_BACKLOG)
        except OverflowError as error:
            raise InvalidInput(f"port must be between 0 and 65535, not {port}", field="port") from error
        except OSError as error:
            if or_any and each:
                continue
            words = os.strerror(error.errno).lower() if error.errno else str(error)
            raise InvalidInput(
                f"cannot listen on {host}:{port}: {words}; choose another --port", field="port"
            ) from error
    raise AssertionError("one of them was tried last")


def address_of(listening: socket.socket) -> str:
    """The URL of the socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def hosts_of(host: str) -> list[str]:
    """The names that a site without a token answers to, which a stranger's name that leads here is none of."""
    return [*LOOPBACK, "[::1]", host]


def server_for(app: ASGIApp) -> uvicorn.Server:
    """A server that stops when its `should_exit` is set. Raises `InvalidInput` where the extra is not installed."""
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise InvalidInput("serving needs uvicorn, which is not installed: pip install 'agentq-redis[web]'") from error

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The command has them."""
            yield

    config: Any = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE_S, lifespan="on"
    )
    return Server(config)


@asynccontextmanager
async def served(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """The app is served while the block lasts."""
    server = server_for(app)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        # The socket listens already: who comes before the server does waits for it.
        yield
    finally:
        server.should_exit = True
        await serving
