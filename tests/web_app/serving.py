"""The site behind a real server, with a worker beside it, for tests that stream."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import uvicorn

from agentq import Agent, AgentQ, AsyncClient, Settings, ToolContext, tool
from agentq.private_redis import free_port
from agentq.web import web_app
from tests.helpers import wait_until
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import ASGIApp

    from tests.worker.harness import Running


@dataclass
class House:
    """A server at `address`, the client under it, and what its tools have done."""

    address: str
    client: AsyncClient
    http: httpx.AsyncClient
    app: AgentQ
    worker: Running
    done: list[str] = field(default_factory=list)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The app behind uvicorn; gives its address."""
    port = free_port()
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    # Not `serve`: that takes the signals of the test run.
    task = asyncio.create_task(server._serve())  # noqa: SLF001
    try:
        await wait_until(lambda: server.started or task.done(), message="uvicorn")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own, for the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def wsgi_served(app: Any) -> Iterator[str]:
    """A WSGI app behind a server with threads; gives its address."""
    with make_server("127.0.0.1", 0, app, _Threads, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def house(redis_url: str, **options: Any) -> AsyncIterator[House]:
    """A served site over Redis, and a worker with the agent `clerk`, which adds, pays when it may, and asks."""
    done: list[str] = []

    @tool(effect="none")
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @tool(effect="once", approval=True)
    async def pay(amount: int) -> str:
        """Pay."""
        done.append(f"paid {amount}")
        return f"paid {amount}"

    @tool(effect="once")
    async def order(ctx: ToolContext) -> str:
        """Order a shirt."""
        size = await ctx.ask("Which size?", schema={"enum": ["S", "M"]})
        done.append(f"ordered {size}")
        return f"ordered {size}"

    @tool(effect="once")
    async def measure(ctx: ToolContext) -> str:
        """Ask for two things, one after the other."""
        done.append(f"{await ctx.ask('Width?')} x {await ctx.ask('Height?')}")
        return done[-1]

    clerk = Agent("clerk", model="mock", tools=[add, pay, order, measure], retry_backoff_s=0.01)
    app = AgentQ([clerk], settings=Settings(redis_url=redis_url, sweep_ms=100, coalesce_ms=1))
    async with (
        working(app) as worker,
        AsyncClient(settings=app.settings) as client,
        served(web_app(client, **options)) as address,
        httpx.AsyncClient(base_url=address, timeout=20) as http,
    ):
        yield House(address, client, http, app, worker, done)
