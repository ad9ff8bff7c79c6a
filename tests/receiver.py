"""A receiver of webhooks on loopback that answers as a test wishes: with a status, by hanging, or by closing."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agentq import verify_webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
Play = int | tuple[int, dict[str, str]] | Literal["hang", "close", "half"]


@dataclass
class Got:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]

    def message(self, secret: str = SECRET, tolerance: float = 1e12) -> dict[str, Any]:
        """The message, verified."""
        return verify_webhook(secret, self.headers, self.body, tolerance)


@dataclass
class Receiver:
    """Answers with `plays` in turn, with the last one for ever, or, if it `repeats`, all over again."""

    plays: list[Play] = field(default_factory=lambda: [204])
    got: list[Got] = field(default_factory=list)
    url: str = ""
    connections: int = 0
    repeats: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.got]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.title(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        number = len(self.got)
        play = self.plays[number % len(self.plays) if self.repeats else min(number, len(self.plays) - 1)]
        self.got.append(Got(method, path, headers, body))
        if play == "hang":
            await reader.read()  # until the client has had enough
            return False
        if play == "close":
            return False
        if play == "half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            await writer.drain()
            return False
        status, more = (play, {}) if isinstance(play, int) else play
        content = "" if status == 204 else "ok"
        length = [f"Content-Length: {len(content)}"] if content else []
        lines = [f"HTTP/1.1 {status} Words", *length, *(f"{name}: {value}" for name, value in more.items())]
        writer.write("\r\n".join([*lines, "", content]).encode())
        await writer.drain()
        return True

    def close_all(self) -> None:
        for writer in tuple(self._writers):
            writer.close()


@asynccontextmanager
async def receiving(*plays: Play) -> AsyncIterator[Receiver]:
    """A receiver that answers with `plays`, 204 if there are none."""
    receiver = Receiver(list(plays) or [204])
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)  # noqa: SLF001
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook?key=hidden"
    try:
        yield receiver
    finally:
        receiver.close_all()
        server.close()
        await server.wait_closed()
