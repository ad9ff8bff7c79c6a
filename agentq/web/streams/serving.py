"""Sending a stream: paced, closed when the client has gone, and cut off when it does not take what it gets.

Nothing is buffered here. What has been published and not yet sent waits in the client's inbox of the hub, which holds
so much and then reads the run's events again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import Response

from agentq.sse import BEAT, paced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
# Nothing may keep a stream: no cache, no nginx.
HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
# A browser that was cut off comes back after so long.
RETRY_MS = 1_000
# What has to be taken within this time is one piece; until then the server holds it, and what its sockets hold.
SEND_S = 20.0
# An empty line, which readers of NDJSON pass over.
_LINE_BEAT = "\n"


class Stream(Response):
    """An answer whose body comes as it happens. `chunks` is closed when it has ended, or nobody is there any more."""

    def __init__(
        self,
        chunks: AsyncGenerator[str, None],
        *,
        beat_s: float,
        media_type: str = SSE,
        headers: Mapping[str, str] | None = None,
        send_s: float = SEND_S,
    ) -> None:
        self._chunks = chunks
        self._beat_s = beat_s
        self._send_s = send_s
        self._beat = BEAT if media_type == SSE else _LINE_BEAT
        super().__init__(None, headers={**HEADERS, **(headers or {})}, media_type=media_type)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it has ended, or the client has gone; whichever comes first ends the other."""
        sending = asyncio.create_task(self._send_all(scope, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            was_sent = sending.done()
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if was_sent:
            sending.result()

    async def _send_all(self, scope: Scope, send: Send) -> None:
        async with aclosing(paced(self._chunks, self._beat_s)) as chunks:
            try:
                async with asyncio.timeout(self._send_s):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    async for chunk in chunks:
                        body = self._beat if chunk is None else chunk
                        async with asyncio.timeout(self._send_s):
                            await send({"type": "http.response.body", "body": body.encode(), "more_body": True})
                async with asyncio.timeout(self._send_s):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:
                # The server closes a connection whose answer is not complete, and the client can go on from its cursor.
                logger.info("a client that took nothing for %g s was cut off: %s", self._send_s, scope["path"])


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
