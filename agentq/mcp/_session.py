"""One session with an MCP server in one event loop: opened, kept and closed by a task of its own.

That is a rule of the SDK's cancel scopes; requests may come from any task of the loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError

from agentq.mcp._errors import ServerAway, ServerGone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.client._transport import TransportStreams
    from mcp.shared.dispatcher import ProgressFnT

logger = logging.getLogger(__name__)
T = TypeVar("T")
# The SDK gives a server that is told to stop 2 s, then kills it.
_CLOSE_S = 10.0
# A server that forgets to say that its list has changed is believed so long.
_LIST_S = 300.0
_PAGES = 100
# When a stream of notifications breaks, the next one is asked for after so long.
_LISTEN_AGAIN_S = 5.0
# What breaks a connection, beside what the SDK makes of it.
_BROKEN = (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, httpx2.HTTPError)


class Session:
    """A session that opens at once. `is_over`: it takes no more requests; those in flight may still be answered."""

    def __init__(self, name: str, transport: AbstractAsyncContextManager[TransportStreams], *, open_s: float) -> None:
        self.name = name
        self.is_over = False
        self.was_open = False
        self.ended_at = 0.0
        self.cause = ""
        self.heard_at = 0.0
        self._open_s = open_s
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._in_flight = 0
        self._listed: tuple[mcp_types.Tool, ...] = ()
        self._listed_at = 0.0
        self._is_stale = True
        self._listing = asyncio.Lock()
        self._ready = self._loop.create_future()
        self._leave = asyncio.Event()
        self._task = self._loop.create_task(self._keep(transport), name=f"agentq-mcp-{name}")

    # --- the task

    async def _keep(self, transport: AbstractAsyncContextManager[TransportStreams]) -> None:
        listening: asyncio.Task[None] | None = None
        try:
            async with Client(
                _watched(transport, self._end),
                cache=None,
                client_info=mcp_types.Implementation(name="agentq", version="1"),
                message_handler=self._hear,
            ) as client:
                self._client = client
                self.was_open = True
                self.heard_at = self._loop.time()
                offers = client.server_capabilities.tools
                if offers is not None and offers.list_changed:
                    listening = asyncio.create_task(self._listen(client), name=f"agentq-mcp-{self.name}-listen")
                _settle(self._ready)
                await self._leave.wait()
        except Exception as error:
            self._end(_words(error))
            logger.debug("session with MCP server %s broke", self.name, exc_info=error)
        finally:
            self._end("it was closed")
            _settle(self._ready)
            if listening is not None:
                listening.cancel()
                await asyncio.wait({listening})

    def _end(self, cause: str = "the server ended") -> None:
        """Take no more requests; whoever waits for an answer over this connection will get none."""
        if not self.is_over:
            self.cause = cause
            self.is_over = True
            self.ended_at = self._loop.time()
        self._leave.set()

    def _retire(self, cause: str) -> None:
        """Take no more requests, and end with the last of those in flight."""
        if not self.is_over:
            self.cause = cause
            self.is_over = True
            self.ended_at = self._loop.time()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self.is_over and not self._in_flight:
            self._leave.set()

    async def _hear(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._is_stale = True

    async def _listen(self, client: Client) -> None:
        """Hear of changes to the list, from servers that want to be asked for them; the others tell `_hear`."""
        while not self.is_over:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._is_stale = True
            except ListenNotSupportedError:
                return
            except (MCPError, SubscriptionLost, *_BROKEN) as error:
                logger.debug("MCP server %s: %s", self.name, error)
            self._is_stale = True  # something may have been missed
            await asyncio.sleep(_LISTEN_AGAIN_S)

    # --- for others

    async def opened(self) -> None:
        """Wait until it is open. Raises `ServerAway`."""
        await asyncio.wait({self._ready}, timeout=self._open_s)
        if not self._ready.done():
            self._end(f"it did not answer within {self._open_s:g} s")
            self._task.cancel()
        if not self.was_open or self.is_over:
            raise ServerAway(f"MCP server {self.name} cannot be reached: {self.cause}")

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing was heard of the server for so long."""
        return self._loop.time() - self.heard_at > seconds

    async def tools(self) -> tuple[mcp_types.Tool, ...]:
        """The server's tools, as it last listed them. The same tuple as long as nothing has changed."""
        async with self._listing:
            if self._is_stale or self._loop.time() - self._listed_at > _LIST_S:
                await self.list_tools()
            return self._listed

    async def list_tools(self) -> None:
        """Ask for the list anew. Raises `ServerAway` and `ServerGone`."""
        self._is_stale = False  # a change that is told of meanwhile makes it so again
        try:
            async with asyncio.timeout(self._open_s):
                found = await self.request(_all_tools)
        except TimeoutError:
            self._is_stale = True
            self._retire("it does not answer")
            raise ServerAway(f"MCP server {self.name} did not list its tools within {self._open_s:g} s") from None
        except BaseException:
            self._is_stale = True
            raise
        self._listed_at = self._loop.time()
        if found != self._listed:
            self._listed = found

    async def call(
        self, name: str, arguments: Mapping[str, Any], on_progress: ProgressFnT | None
    ) -> mcp_types.CallToolResult:
        """Call a tool. Raises `ServerAway` and `ServerGone`, MCPError for the server's refusal."""
        return await self.request(lambda client: client.call_tool(name, dict(arguments), progress_callback=on_progress))

    async def request(self, send: Callable[[Client], Awaitable[T]]) -> T:
        client = self._client
        if client is None or self.is_over:
            raise ServerAway(f"MCP server {self.name} cannot be reached: {self.cause}")
        self._in_flight += 1
        try:
            answer = await send(client)
        except MCPError as error:
            if error.code == mcp_types.INVALID_REQUEST and error.message == "Session terminated":
                # HTTP 404: the server has started anew and knows nothing of this session, so it did nothing either.
                self._retire("the server does not know the session")
                raise ServerAway(f"MCP server {self.name} does not know the session any more") from error
            if error.code == mcp_types.CONNECTION_CLOSED:
                self._retire(error.message)
                raise ServerGone(f"MCP server {self.name} went away: {error.message}") from error
            self.heard_at = self._loop.time()
            raise
        except _BROKEN as error:
            self._retire(_words(error))
            raise ServerGone(f"MCP server {self.name} went away: {_words(error)}") from error
        else:
            self.heard_at = self._loop.time()
            return answer
        finally:
            self._in_flight -= 1
            self._leave_if_idle()

    async def aclose(self) -> None:
        """End the session and, where it was started for it, the server."""
        self._end("it was closed")
        _, late = await asyncio.wait({self._task}, timeout=_CLOSE_S)
        if late:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_S)


class _WatchedStream:
    """A stream of what the server says, that tells at once when it ends: the SDK tells at the next request."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _WatchedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._on_end()
            raise

    async def __aenter__(self) -> _WatchedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> bool | None:
        left: bool | None = await self._stream.__aexit__(*exc_info)
        return left


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager[TransportStreams], on_end: Callable[[], None]
) -> AsyncGenerator[TransportStreams, None]:
    async with transport as (read, write):
        yield _WatchedStream(read, on_end), write


async def _all_tools(client: Client) -> tuple[mcp_types.Tool, ...]:
    found: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tuple(found)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _words(error: BaseException) -> str:
    """The innermost reason: the SDK's task groups wrap it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
