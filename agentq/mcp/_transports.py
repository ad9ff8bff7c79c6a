"""The two ways to an MCP server: a child process, and streamable HTTP."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import httpx2
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.client._transport import TransportStreams


def over_stdio(
    command: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike[str] | None
) -> AbstractAsyncContextManager[TransportStreams]:
    """A child process in a session of its own, so that a Ctrl-C is ours alone; what it logs goes to our stderr."""
    program, *arguments = command
    where = None if cwd is None else str(cwd)
    parameters = StdioServerParameters(command=program, args=arguments, env=dict(env), cwd=where)
    return stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)


@asynccontextmanager
async def over_http(
    url: str, headers: Mapping[str, str] | Callable[[], Any] | None, *, connect_s: float
) -> AsyncGenerator[TransportStreams, None]:
    """Streamable HTTP. How long an answer may take is for each call to say."""

    async def add_headers(request: httpx2.Request) -> None:
        given = headers() if callable(headers) else headers
        request.headers.update(await given if isawaitable(given) else given)

    hooks = {"request": [add_headers]} if headers else {}
    timeout = httpx2.Timeout(connect_s, read=None)
    async with (
        httpx2.AsyncClient(timeout=timeout, event_hooks=hooks) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams
