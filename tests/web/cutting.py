"""A network that cuts HTTP connections at random places, and a Node.js client that lives with it."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS = Path(__file__).parent / "clients"
_CHUNK = 4_096


@dataclass
class Cutting:
    """A proxy before a server. The first `cuts` connections end after so many bytes of their first body as it draws.

    With `in_head` they may end before the answer's head is through: not every client asks again then.
    """

    address: str
    cuts: int
    seed: int
    in_head: bool = False
    made: int = 0
    url: str = ""
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        where = urlsplit(self.address)
        try:
            from_server, to_server = await asyncio.open_connection(where.hostname, where.port)
            pumps = [
                asyncio.create_task(self._up(reader, to_server)),
                asyncio.create_task(self._down(from_server, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.transport.abort()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._random.choice([1, 30, 200, 700, 1500, 4000]) + self._random.randrange(200)
        seen = b""
        while data := await reader.read(_CHUNK):
            head = b"" if self.in_head or b"\r\n\r\n" in seen else data.partition(b"\r\n\r\n")[0]
            seen += head and data
            allowed = left + len(head)
            if len(data) > allowed and self.made < self.cuts:
                self.made += 1
                writer.write(data[:allowed])
                await writer.drain()
                return
            left -= len(data) - len(head)
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def cutting(address: str, *, cuts: int, seed: int, in_head: bool = False) -> AsyncIterator[Cutting]:
    """A `Cutting` that listens."""
    proxy = Cutting(address, cuts, seed, in_head)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def client(node: str, name: str, **task: Any) -> dict[str, Any]:
    """What the client of this name makes of its task."""
    command = (node, str(CLIENTS / f"{name}.mjs"), json.dumps(task))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 45)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    result: dict[str, Any] = json.loads(out)
    return result
