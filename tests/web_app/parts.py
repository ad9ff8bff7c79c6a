"""A site for tests: the app over a store in memory, and an HTTP client that talks to it in process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from agentq import Agent, AgentQ, tool
from agentq.client_async import AsyncClient
from agentq.executors.local import LocalExecutor
from agentq.settings import Settings
from agentq.stores.memory import MemoryStore
from agentq.web import web_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

BASE = "http://testserver"


class Idle(LocalExecutor):
    """Nobody advances the runs."""

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        """Nobody comes."""


def memory_client() -> AsyncClient:
    """A client over a store in memory, whose runs nobody advances."""
    return AsyncClient(settings=Settings(), store=MemoryStore(), executor=Idle())


@tool(effect="once", approval=True)
async def refund(number: str, token: str = "") -> str:
    """Pay an order back."""
    return f"paid back: {number}"


CLERK = Agent("clerk", model="mock", tools=[refund])


@asynccontextmanager
async def asking(app: ASGIApp, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app; what a handler raises is answered with 500, as a server does."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, **options) as http:
        yield http


@asynccontextmanager
async def site(**options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, AsyncClient]]:
    """An HTTP client of a fresh site whose runs nobody advances, and the client that the site is over."""
    client = memory_client()
    async with asking(web_app(client, **options)) as http:
        yield http, client


@asynccontextmanager
async def working(**options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, AsyncClient]]:
    """The same, with the agent `clerk`, whose runs are carried on in this process."""
    executor = LocalExecutor()
    app = AgentQ([CLERK], settings=Settings(), store=MemoryStore(), executor=executor)
    executor.bind(app.advance)
    web = web_app(app, **options)
    async with asking(web) as http:
        yield http, web.state.site.client
        await executor.aclose()
    await app.aclose()
