"""HTTP for the providers: one streamed POST at a time, over connections that are kept per event loop.

The only module that knows a client library: httpx's API on aiohttp's transport. Measured against httpx's own pool it
costs half the CPU per chunk, and it loses no slot of the pool when a call is cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import threading
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import aiohttp.http_exceptions
import httpx
from httpx_aiohttp import AiohttpTransport

from agentq.errors import ProviderError
from agentq.providers._sse import Frame, FrameTooLarge, SseParser

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

# Below the 60 s after which many servers and load balancers close a connection that idles.
_KEEP_IDLE_S = 30.0
# A larger body, with files in it, is written piece by piece, so that others get their turn.
_PIECE_BYTES = 256 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_REPLY_BYTES = 16_000_000
# An error is known already; its words are not worth more waiting.
_ERROR_BODY_S = 5.0

# How exactly the patience of a stream is kept while somebody works on a piece of it.
_LOOK_S = 0.01
# What httpx and, where its transport does not translate, aiohttp raise. A test holds this against both libraries.
FOREIGN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpx.CookieConflict,
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,
)
# These come again however often one asks.
_LASTING = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError, aiohttp.InvalidURL)
# Told by aiohttp's own: its transport says ConnectTimeout for every broken connection.
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, httpx.ConnectError)


@dataclass(frozen=True, slots=True)
class Post:
    """One request, and how long to wait for what.

    `headers_s` is for the status, `first_s` for the first event after it, `idle_s` for each further one, and
    `timeout_s` for all; the first two are `idle_s` where they are not given.
    """

    provider: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    connect_s: float
    idle_s: float
    timeout_s: float | None = None
    headers_s: float | None = None
    first_s: float | None = None


class Answer:
    """A response whose status and headers are known. Its body is read once, as `frames` or by `body`."""

    def __init__(self, post: Post, response: httpx.Response, patience: _Patience) -> None:
        self._post = post
        self._response = response
        self._patience = patience
        self._waiting: _Waiting | None = None
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def frames(self) -> AsyncGenerator[Frame]:
        """The server-sent events, as they come. Raises `ProviderError`; comments alone count as silence."""
        parser = SseParser()
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                before = parser.progress
                frames = self._parsed(parser, piece)
                if parser.progress > before:
                    self._patience.renew()
                for frame in frames:
                    yield frame
        for frame in parser.end():
            yield frame

    def hurry(self, seconds: float) -> None:
        """Wait that long for what is left, and no longer."""
        self._patience.end_within(seconds)
        if self._waiting is not None:
            self._waiting.look()

    async def body(self) -> bytes:
        """The whole body. Raises `ProviderError`, also where it is beyond 16 MB."""
        pieces: list[bytes] = []
        size = 0
        async with aclosing(self._pieces()) as stream:
            async for piece in stream:
                self._patience.renew()
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise ProviderError(
                        f"{self._post.provider} sent a reply of more than {MAX_REPLY_BYTES} bytes",
                        provider=self._post.provider,
                        retryable=False,
                    )
                pieces.append(piece)
        return b"".join(pieces)

    async def error_body(self) -> bytes:
        """As much of the body as comes soon, at most 64 KiB."""
        body = b""
        self.hurry(_ERROR_BODY_S)
        try:
            async with aclosing(self._pieces()) as stream:
                async for piece in stream:
                    body += piece
                    if len(body) >= MAX_ERROR_BYTES:
                        break
        except ProviderError:
            pass  # the status says more than how its explanation ended
        return body[:MAX_ERROR_BYTES]

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """What the socket brings, decoded if the server has packed it although it was asked not to."""
        # httpx's iterators are generators inside generators, which an early end leaves to the garbage collector.
        is_packed = self.headers.get("content-encoding", "identity") != "identity"
        source: Any = self._response.aiter_bytes() if is_packed else aiter(self._response.stream)  # type: ignore[arg-type]
        waiting = self._waiting = _Waiting(self._patience)
        try:
            async with aclosing(source) as pieces, waiting:
                async for piece in pieces:
                    waiting.pause()
                    yield piece
                    waiting.go_on()
        except TimeoutError:
            raise self._patience.error() from None
        except FOREIGN as error:
            raise unreachable(self._post, error) from error

    def _parsed(self, parser: SseParser, piece: bytes) -> list[Frame]:
        try:
            return parser.feed(piece)
        except FrameTooLarge as error:
            provider = self._post.provider
            raise ProviderError(f"{provider}: {error}", provider=provider, retryable=False) from error


class _Patience:
    """How much longer to wait: a limit without progress, and one for all."""

    def __init__(self, post: Post) -> None:
        self._post = post
        now = time.monotonic()
        self._last = None if post.timeout_s is None else now + post.timeout_s
        self._limit_s, self._setting = post.headers_s or post.idle_s, "headers_timeout_s"
        self._idle = now + post.connect_s + self._limit_s
        self._is_hurried = False

    def answered(self) -> None:
        """The status is there; what is waited for now is the first event."""
        self._limit_s, self._setting = self._post.first_s or self._post.idle_s, "idle_timeout_s"
        self._idle = time.monotonic() + self._limit_s

    def renew(self) -> None:
        """There was progress."""
        if not self._is_hurried:
            self._limit_s = self._post.idle_s
            self._idle = time.monotonic() + self._limit_s

    def end_within(self, seconds: float) -> None:
        """No progress prolongs it any more."""
        self._is_hurried = True
        self._idle = min(self._idle, time.monotonic() + seconds)

    def error(self) -> ProviderError:
        """Why the wait was given up."""
        post = self._post
        if self._last is not None and time.monotonic() >= self._last:
            reason = f"was not done within {post.timeout_s:g} s (timeout_s)"
        else:
            reason = f"sent nothing for {self._limit_s:g} s ({self._setting})"
        return ProviderError(f"{post.provider} {reason}", provider=post.provider, retryable=True)

    @property
    def left_s(self) -> float:
        """How long from now."""
        until = self._idle if self._last is None else min(self._idle, self._last)
        return until - time.monotonic()

    def limit(self) -> asyncio.Timeout:
        """A context that ends one wait in time, with TimeoutError."""
        return asyncio.timeout(self.left_s)


class _Waiting:
    """A context for many waits, of which none may exceed the patience; raises TimeoutError.

    One timer looks now and then how much is left, which costs nothing per wait: a stream has hundreds of them. It
    cancels who waits at once, in the middle of the wait: a moment later that might be the caller's time already.
    """

    def __init__(self, patience: _Patience) -> None:
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._waits: asyncio.Task[Any] | None = None  # None in the caller's time
        self._cut_off: asyncio.Task[Any] | None = None
        self._cancels = 0  # of the task that waits, by others, before it did

    async def __aenter__(self) -> None:
        self.go_on()
        self._look_later()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._cut_off is not None:
            is_ours_alone = self._cut_off.uncancel() <= self._cancels
            if is_ours_alone and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def pause(self) -> None:
        """What comes is the caller's time, which must not be cut off."""
        self._waits = None

    def go_on(self) -> None:
        """What comes is a wait again, perhaps of another task than the last."""
        self._waits = asyncio.current_task()
        self._cancels = 0 if self._waits is None else self._waits.cancelling()

    def look(self) -> None:
        """See how much is left, and when to look again. To be called when the patience has shrunk."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cut_off is not None:
            return
        if self._waits is not None and self._patience.left_s <= 0:
            self._cut_off = self._waits
            self._cut_off.cancel()
        else:
            self._look_later()

    def _look_later(self) -> None:
        after_s = max(self._patience.left_s, _LOOK_S)
        self._timer = asyncio.get_running_loop().call_later(after_s, self.look)


class Connections:
    """The connections of this process: a pool for each event loop, opened by its first call.

    An event loop that ends as `asyncio.run` ends it closes its pool itself; others call `aclose`.
    """

    def __init__(self, *, max_connections: int = 0) -> None:
        # 0 is no limit: what limits the calls in flight are the slots of the worker. A limit here would be a second,
        # hidden queue, and aiohttp's own of 100 is below one worker's slots.
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._open: dict[asyncio.AbstractEventLoop, tuple[AiohttpTransport, AsyncGenerator[AiohttpTransport]]] = {}

    @property
    def loops(self) -> int:
        """How many event loops hold connections."""
        return len(self._open)

    @asynccontextmanager
    async def post(self, post: Post) -> AsyncIterator[Answer]:
        """Send a request; the answer is there as soon as its headers are.

        Raises `ProviderError` when there is none. Leaving the block early, also by cancellation, closes the connection.
        """
        patience = _Patience(post)
        request = httpx.Request(
            "POST",
            post.url,
            headers={**post.headers, "Content-Length": str(len(post.body))},
            content=post.body if len(post.body) <= _PIECE_BYTES else _in_pieces(post.body),
            extensions={"timeout": {"connect": post.connect_s, "read": None, "write": None, "pool": None}},
        )
        transport = await self._transport()
        try:
            async with patience.limit():
                response = await transport.handle_async_request(request)
        except TimeoutError:
            raise patience.error() from None
        except FOREIGN as error:
            raise unreachable(post, error) from error
        patience.answered()
        try:
            yield Answer(post, response, patience)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop; the next call opens new ones."""
        _, holder = self._open.get(asyncio.get_running_loop(), (None, None))
        if holder is not None:
            await holder.aclose()

    async def _transport(self) -> AiohttpTransport:
        loop = asyncio.get_running_loop()
        held = self._open.get(loop)
        if held is None:
            # The loop knows every generator that was begun in it, and closes it when it ends.
            holder = self._held(loop)
            held = (await anext(holder), holder)
            with self._lock:
                for other in [other for other in self._open if other.is_closed()]:
                    del self._open[other]
                self._open[loop] = held
        return held[0]

    async def _held(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[AiohttpTransport]:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=_KEEP_IDLE_S, ssl=_ssl_context()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # a call must not depend on earlier ones
            trust_env=True,  # HTTPS_PROXY, NO_PROXY
        )
        transport = AiohttpTransport(verify=_ssl_context(), client=session)
        try:
            yield transport
        finally:
            with self._lock:
                self._open.pop(loop, None)
            await transport.aclose()


async def _in_pieces(body: bytes) -> AsyncGenerator[bytes]:
    for begin in range(0, len(body), _PIECE_BYTES):
        yield body[begin : begin + _PIECE_BYTES]


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """One for the process: loading the authorities takes 20 ms."""
    return httpx.create_ssl_context()


connections = Connections()


def unreachable(post: Post, error: Exception) -> ProviderError:
    """The `ProviderError` for any of `FOREIGN`."""
    reasons = [error]
    while (cause := reasons[-1].__cause__ or reasons[-1].__context__) and isinstance(cause, Exception):
        reasons.append(cause)
    certificate = next((cause for cause in reversed(reasons) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        reason = getattr(certificate, "verify_message", certificate)
        what = f"the certificate of {_where(post.url)} cannot be verified: {reason}"
    elif any(isinstance(cause, _NOT_CONNECTED) for cause in reasons):
        what = f"{_where(post.url)} cannot be reached: {_words(reasons)}"
    else:
        what = f"the connection to {_where(post.url)} broke: {_words(reasons)}"
    return ProviderError(
        f"{post.provider}: {what}",
        provider=post.provider,
        retryable=certificate is None and not any(isinstance(cause, _LASTING) for cause in reasons),
    )


def _where(url: str) -> str:
    return url.partition("://")[2].partition("/")[0] or url


def _words(reasons: list[Exception]) -> str:
    """What the innermost error that has words says; the outer ones wrap it."""
    for reason in reversed(reasons):
        if isinstance(reason, ConnectionError) and reason.errno:
            return os.strerror(reason.errno)
        if isinstance(reason, OSError) and reason.strerror:
            return reason.strerror
        # aiohttp's own begin with a status that nobody sent.
        text = getattr(reason, "message", None) or str(reason)
        if text:
            return " ".join(str(text).split())
    return type(reasons[0]).__name__
