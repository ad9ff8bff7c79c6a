"""A model server on loopback that answers as a test wishes: whole, slowly, wrongly, cut at any byte, or not at all."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

EVENTS = {"Content-Type": "text/event-stream"}


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Wire:
    """One answer, byte by byte."""

    def __init__(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        self._writer = writer
        self.asked = asked
        self.keeps_alive = True

    async def head(self, status: int = 200, headers: Mapping[str, str] = EVENTS) -> None:
        """The status and the headers of an answer whose length is not known."""
        lines = [f"HTTP/1.1 {status} Words", "Transfer-Encoding: chunked", *(f"{k}: {v}" for k, v in headers.items())]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        if data:
            await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        await self._writer.wait_closed()


@dataclass
class FaultServer:
    """Plays `plays` in turn, the last one again and again."""

    plays: list[Callable[[Wire], Coroutine[Any, Any, None]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    is_open: int = 0
    url: str = ""

    def answers(self, *plays: Callable[[Wire], Coroutine[Any, Any, None]]) -> None:
        self.plays = list(plays)
        self.asked.clear()

    async def is_quiet(self) -> None:
        """Wait until nobody is connected."""
        await wait_until(lambda: self.is_open == 0, message=f"{self.is_open} connections closed")

    async def serve(self, reader: Any, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.is_open += 1
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
                wire = Wire(writer, asked)
                await _until_gone(play(wire), reader)
                if not wire.keeps_alive:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, which is often what a test wants
        finally:
            self.is_open -= 1
            writer.close()


class _Reader(asyncio.StreamReader):
    """Says when the client has gone, without reading what it may have sent before."""

    def __init__(self) -> None:
        super().__init__(limit=2**20, loop=asyncio.get_running_loop())
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


async def _until_gone(play: Coroutine[Any, Any, None], reader: _Reader) -> None:
    """Play, but no longer than somebody listens."""
    playing = asyncio.create_task(play)
    listening = asyncio.create_task(reader.gone.wait())
    try:
        await asyncio.wait({playing, listening}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
        else:
            raise ConnectionResetError
    finally:
        for task in (playing, listening):
            task.cancel()
        await asyncio.gather(playing, listening, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, path, _ = first.split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(body or b"{}"))


@asynccontextmanager
async def serving() -> AsyncIterator[FaultServer]:
    """A server for the block; afterwards nobody may be connected any more."""
    server = FaultServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: Any, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await server.serve(reader, writer)
        finally:
            tasks.discard(task)

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: asyncio.StreamReaderProtocol(_Reader(), serve, loop=loop), "127.0.0.1", 0
    )
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- what a server may say


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed completion, as OpenAI sends it."""
    choice = {"index": 0, "delta": dict(delta or {}), "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": [choice], **more}


def usage(prompt: int = 100, completion: int = 7, cached: int = 20) -> dict[str, Any]:
    tokens = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    return {**chunk(), "choices": [], "usage": tokens}


def call(index: int, call_id: str, name: str, arguments: str) -> list[dict[str, Any]]:
    """The pieces of a tool call: its name, then its arguments in two halves."""
    half = len(arguments) // 2
    first = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"index": index, "function": {"arguments": part}} for part in (arguments[:half], arguments[half:])]
    return [chunk({"tool_calls": [piece]}) for piece in (first, *pieces)]


def says(*words: str) -> list[dict[str, Any]]:
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": word}) for word in words),
        chunk(finish="stop"),
        usage(),
    ]


def encoded(chunks: Sequence[Any], *, done: bool = True) -> bytes:
    events = [f"data: {json.dumps(each, ensure_ascii=False)}\n\n".encode() for each in chunks]
    return b"".join([*events, *([b"data: [DONE]\n\n"] if done else [])])


def streams(chunks: Sequence[Any], *, done: bool = True) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    """Answer with a whole stream."""

    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(encoded(chunks, done=done))
        await wire.end()

    return play


def cuts(data: bytes, at: int) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    """Begin a stream and break the connection after `at` bytes of it."""

    async def play(wire: Wire) -> None:
        wire.keeps_alive = False
        await wire.head()
        await wire.send(data[:at])

    return play


def fails(status: int, body: Any = "", **headers: str) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    """Answer with a status and a body, JSON unless it is text or bytes."""
    is_text = isinstance(body, str | bytes)
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = {"Content-Type": "text/html" if is_text else "application/json"}

    async def play(wire: Wire) -> None:
        await wire.head(status, kind | {name.replace("_", "-"): value for name, value in headers.items()})
        for begin in range(0, len(data), 65_536):
            await wire.send(data[begin : begin + 65_536])
        await wire.end()

    return play


async def hangs(wire: Wire) -> None:
    """Take the request and say nothing."""
    await asyncio.Event().wait()


def says_then_hangs(data: bytes) -> Callable[[Wire], Coroutine[Any, Any, None]]:
    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(data)
        await asyncio.Event().wait()

    return play


async def comments(wire: Wire) -> None:
    """Keep the connection alive, and say nothing."""
    await wire.head()
    while True:
        await wire.send(b": STILL HERE\n\n")
        await asyncio.sleep(0.01)
