"""A broken network for tests: a proxy in front of a Redis that delays, cuts, swallows and refuses on demand.

    with FaultProxy(redis_url) as proxy:
        client = Client(proxy.url)
        proxy.cut_after("EVALSHA")      # the next script is carried out, and its answer is lost
        with proxy.black_hole():        # connections stay open, and nothing comes through
            ...

It runs in a thread of its own, so it serves asynchronous and plain tests, and other processes.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

_HOST = "127.0.0.1"
_CHUNK = 65_536
_START_S = 10.0

# A command as its words; the first is its name.
Command = tuple[bytes, ...]


@dataclass(slots=True)
class _Trap:
    """What is to happen to one command that is still to come."""

    matches: Callable[[Command], bool]
    left: int
    is_carried_out: bool


@dataclass(eq=False, slots=True)
class _Link:
    """One connection through the proxy. Replies come in the order of commands; the doomed one is swallowed."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    sent: int = 0
    answered: int = 0
    doomed: int | None = None

    def close(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


@dataclass
class FaultProxy:
    """Stands between clients and the Redis at `redis_url`, which must be a plain `redis://` URL.

    `latency_s` delays every piece of data, in seconds, in each direction; it may be changed at any time. `fired` counts
    the commands that met a trap, `commands` all that came by. Use it as a context manager.
    """

    redis_url: str
    latency_s: float = 0.0
    fired: int = 0
    commands: int = 0
    url: str = ""
    _traps: list[_Trap] = field(default_factory=list)
    _links: set[_Link] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._target(self.redis_url)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._port = 0
        self._do(self._listen())
        parts = urlsplit(self.redis_url)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        self.url = urlunsplit((parts.scheme, f"{login}{_HOST}:{self._port}", parts.path, parts.query, ""))
        self._call(self._open.set)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what a test does

    def cut_before(self, command: str | Callable[[Command], bool], *, nth: int = 1) -> None:
        """Close the connection in place of delivering the `nth` command from now on that matches."""
        self._trap(command, nth, is_carried_out=False)

    def cut_after(self, command: str | Callable[[Command], bool], *, nth: int = 1) -> None:
        """Deliver it, have it carried out, and close the connection in place of its reply."""
        self._trap(command, nth, is_carried_out=True)

    def cut_all(self) -> None:
        """Close every connection now, in the middle of whatever it was about."""
        self._call(self._cut_all)

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        """For the block, connections are accepted and stay open, and nothing comes through in either direction."""
        self._call(self._open.clear)
        try:
            yield
        finally:
            self._call(self._open.set)

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """For the block, there are no connections, and new ones are refused."""
        self._do(self._stop_listening())
        try:
            yield
        finally:
            self._do(self._listen())

    def retarget(self, redis_url: str) -> None:
        """Send new connections to another Redis, as after a failover, and close those there are."""
        self._target(redis_url)
        self.cut_all()

    # --- how it is done

    def _target(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        if parts.scheme != "redis":
            raise ValueError(f"a fault proxy stands before redis://…, not {redis_url!r}")
        self._server = parts.hostname or _HOST, parts.port or 6379

    def _trap(self, command: str | Callable[[Command], bool], nth: int, *, is_carried_out: bool) -> None:
        matches = _named(command) if isinstance(command, str) else command
        self._call(lambda: self._traps.append(_Trap(matches, nth, is_carried_out)))

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self._do(call())

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connected, _HOST, self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        self._listener.close()
        self._cut_all()

    async def _close(self) -> None:
        await self._stop_listening()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut_all(self) -> None:
        for link in tuple(self._links):
            link.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio starts one for each connection
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._server)
        link = _Link(writer, to_server)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(reader, to_server, link, self._commands)),
            asyncio.ensure_future(self._pump(from_server, writer, link, self._replies)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            link.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
        passing: Callable[[bytearray, _Link], tuple[bytes, bool]],
    ) -> None:
        """Move data on, whole messages at a time, until a side closes or a trap does."""
        waiting = bytearray()
        while data := await reader.read(_CHUNK):
            waiting += data
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            await self._open.wait()
            passed, goes_on = passing(waiting, link)
            writer.write(passed)
            await writer.drain()
            if not goes_on:
                return

    def _commands(self, waiting: bytearray, link: _Link) -> tuple[bytes, bool]:
        """The whole commands that may pass, and whether the connection lives on."""
        start = 0
        while (end := message_end(waiting, start)) is not None:
            words = command_words(waiting, start)
            self.commands += 1
            trap = self._sprung(words)
            if trap is not None and not trap.is_carried_out:
                return bytes(waiting[:start]), False
            link.sent += 1
            if trap is not None and link.doomed is None:
                link.doomed = link.sent
            start = end
        passed = bytes(waiting[:start])
        del waiting[:start]
        return passed, True

    def _replies(self, waiting: bytearray, link: _Link) -> tuple[bytes, bool]:
        start = 0
        while (end := message_end(waiting, start)) is not None:
            link.answered += 1
            if link.answered == link.doomed:
                return bytes(waiting[:start]), False
            start = end
        passed = bytes(waiting[:start])
        del waiting[:start]
        return passed, True

    def _sprung(self, words: Command) -> _Trap | None:
        """The trap that this command meets, if any. A trap springs once."""
        for trap in self._traps:
            if trap.matches(words):
                trap.left -= 1
                if trap.left == 0:
                    self._traps.remove(trap)
                    self.fired += 1
                    return trap
        return None


def _named(name: str) -> Callable[[Command], bool]:
    wanted = name.upper().encode()
    return lambda words: words[0].upper() == wanted


def runs_script(name: str) -> Callable[[Command], bool]:
    """A matcher for the commands that run one of agentq's scripts, by its file name without `.lua`."""
    from agentq._redis.scripts import script

    wanted = script(name)
    marks = (wanted.sha.encode(), wanted.source)
    return lambda words: words[0].upper() in (b"EVAL", b"EVALSHA") and words[1] in marks


def message_end(data: bytearray, start: int) -> int | None:
    """Where the RESP message that begins at `start` ends; None when it is not all there yet.

    The format: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, end = bytes(data[start : start + 1]), line_end + 2
    if kind in (b"$", b"!", b"="):
        length = int(data[start + 1 : line_end])
        if length < 0:
            return end
        return end + length + 2 if len(data) >= end + length + 2 else None
    if kind not in (b"*", b"~", b">", b"%", b"|"):
        return end
    count = int(data[start + 1 : line_end])
    # An attribute comes before the message that it is about.
    for _ in range(count * 2 + (kind == b"|") if kind in (b"%", b"|") else max(count, 0)):
        next_end = message_end(data, end)
        if next_end is None:
            return None
        end = next_end
    return end


def command_words(data: bytearray, start: int) -> Command:
    """The words of the command that begins at `start`: an array of strings, or words on a line."""
    line_end = data.index(b"\r\n", start)
    if data[start : start + 1] != b"*":
        return tuple(bytes(data[start:line_end]).split()) or (b"",)
    words, at = [], line_end + 2
    for _ in range(int(data[start + 1 : line_end])):
        line_end = data.index(b"\r\n", at)
        length = int(data[at + 1 : line_end])
        words.append(bytes(data[line_end + 2 : line_end + 2 + length]))
        at = line_end + 2 + length + 2
    return tuple(words)
