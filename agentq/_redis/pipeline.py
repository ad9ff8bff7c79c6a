"""An auto-pipeliner: what the tasks of one tick of the event loop have to say goes to Redis in one write."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import hiredis
from redis.exceptions import NoScriptError, ResponseError

from agentq._redis.connection import REPLY_TIMEOUT_S, Connection, redis_errors
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from agentq._redis.replication import Replication
    from agentq._redis.scripts import Script

# Scripts that write what somebody relies on when they have answered.
_LASTING = frozenset(
    {
        "create", "journal", "commit", "release", "answer", "cancel", "retry", "effect", "decide", "signal",
        "pause", "resume", "pause_all", "resume_all", "steer",
    }
)  # fmt: skip
# What each command of a batch adds to the time that the batch may take.
_PER_COMMAND_S = 0.1


class _Command(NamedTuple):
    """A command on its way, and who waits for its reply."""

    packed: bytes
    reply: asyncio.Future[Any]


class Pipeline:
    """Collects commands of one tick and sends them together. Cancelling a caller never cuts a connection in half."""

    def __init__(self, connection: Connection, replication: Replication | None = None) -> None:
        self.connection = connection
        self._replication = replication
        self._waiting: list[_Command] = []
        # Whether one of those that wait has to reach a replica.
        self._must_last = False
        self._flushes: set[asyncio.Task[None]] = set()
        # Digests of scripts that Redis has seen from here; a restart or a failover makes it forget them.
        self._loaded: set[str] = set()

    async def execute(self, *command: Any) -> Any:
        """Send one command, return its reply. Raises `StoreUnavailable`, or what Redis answered as an exception."""
        try:
            # Here and not with the whole batch: text without a UTF-8 form is the fault of its own caller alone.
            packed = _packed(*command)
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{error.object[:50]!r} holds half of a surrogate pair, which no text may") from error
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(_Command(packed, reply))
        try:
            return await reply
        except Exception:
            with redis_errors(self.connection.where):
                raise

    async def run(self, script: Script, *, about: str = "", **values: Any) -> Any:
        """Run a script; its negative replies become the exceptions that its header names, which speak of `about`."""
        if self._replication is not None and script.name in _LASTING:
            self._must_last = True
        keys, arguments = script(**values)
        reply = None
        if script.sha in self._loaded:
            try:
                reply = await self.execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                self._loaded.discard(script.sha)
        if script.sha not in self._loaded:
            # Not EVALSHA first: some servers that pose as Redis close the connection on an unknown script.
            reply = await self.execute("EVAL", script.source, len(keys), *keys, *arguments)
            self._loaded.add(script.sha)
        return script.outcome(reply, about=about)

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        must_last, self._must_last = self._must_last, False
        task = asyncio.get_running_loop().create_task(self._send(batch, must_last=must_last))
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    async def _send(self, batch: list[_Command], *, must_last: bool) -> None:
        packed = [command.packed for command in batch]
        if must_last and self._replication is not None:
            # It speaks of what this very connection has written.
            packed.append(_packed("WAIT", 1, self._replication.timeout_ms))
        try:
            replies = await self._exchange(packed)
            if must_last and self._replication is not None:
                confirmed = replies.pop()
                self._replication.saw(confirmed if isinstance(confirmed, int) else 0)
        except BaseException as error:
            # Whoever waits must hear of it, whatever it is; a cancelled flush means that the loop is closing.
            for command in batch:
                if not command.reply.done():
                    if isinstance(error, asyncio.CancelledError):
                        command.reply.cancel()
                    else:
                        command.reply.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for command, reply in zip(batch, replies, strict=True):
            if command.reply.done():
                continue
            if isinstance(reply, Exception):
                command.reply.set_exception(reply)
            else:
                command.reply.set_result(reply)

    async def _exchange(self, commands: list[bytes]) -> list[Any]:
        """Send commands on a connection of the pool, again as its `retry` says. Returns the replies, errors among them.

        redis-py's own pipeline does the same, but packs each command in Python and puts a time limit on each reply:
        half of what a small command costs.
        """
        pool = self.connection.client.connection_pool
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]

        async def exchange() -> list[Any]:
            await connection.send_packed_command([b"".join(commands)])
            # One limit for them all: Redis answers them in one go.
            async with asyncio.timeout(REPLY_TIMEOUT_S + len(commands) * _PER_COMMAND_S):
                return [await _reply(connection) for _ in commands]

        async def disconnect(_: Exception) -> None:
            await connection.disconnect(nowait=True)

        try:
            replies: list[Any] = await connection.retry.call_with_retry(exchange, disconnect)
        finally:
            await pool.release(connection)
        return replies

    async def drain(self) -> None:
        """Return when everything that was sent has been answered."""
        while self._waiting or self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)
            await asyncio.sleep(0)


def _packed(*command: str | bytes | int | float) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it takes a tuple of any length
    return packed


async def _reply(connection: AbstractConnection) -> Any:
    try:
        # No limit of its own.
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
