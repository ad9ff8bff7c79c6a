"""The page of `agentq dev`, served in its process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agentq.cli._site import PORT, address_of, bound, hosts_of, served
from agentq.errors import InvalidInput
from agentq.web import web_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.client_async import AsyncClient

_HOST = "127.0.0.1"


@asynccontextmanager
async def web_here(client: AsyncClient) -> AsyncIterator[str]:
    """The site over the client while the block lasts; gives its address, or why there is none."""
    try:
        app = web_app(client, allowed_hosts=hosts_of(_HOST))
        listening = bound(_HOST, PORT, or_any=True)
    except InvalidInput as error:
        yield str(error)
        return
    with listening:
        async with served(app, listening):
            yield f"{address_of(listening)}/"
