"""An auto-pipeliner: what the tasks of one tick of the event loop have to say goes to Redis in one write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from agentq._redis.connection import Connection, redis_errors
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from agentq._redis.replication import Replication
    from agentq._redis.scripts import Script

# Scripts that write what somebody relies on when they have answered.
_LASTING = frozenset({"create", "journal", "commit", "release", "answer", "cancel", "retry", "effect"})


class Pipeline:
    """Collects commands of one tick and sends them together. Cancelling a caller never cuts a connection in half."""

    def __init__(self, connection: Connection, replication: Replication | None = None) -> None:
        self.connection = connection
        self._replication = replication
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        # Whether one of those that wait has to reach a replica.
        self._must_last = False
        self._flushes: set[asyncio.Task[None]] = set()
        # Digests of scripts that Redis has seen from here; a restart or a failover makes it forget them.
        self._loaded: set[str] = set()

    async def execute(self, *command: Any) -> Any:
        """Send one command, return its reply. Raises `StoreUnavailable`, or what Redis answered as an exception."""
        # Here, and not with the whole batch, so that text without a UTF-8 form is the fault of its own caller alone.
        command = tuple(_encoded(item) for item in command)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((command, future))
        with redis_errors(self.connection.where):
            return await future

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

    async def _send(self, batch: list[tuple[tuple[Any, ...], asyncio.Future[Any]]], *, must_last: bool) -> None:
        try:
            pipeline = self.connection.client.pipeline(transaction=False)
            for command, _ in batch:
                pipeline.execute_command(*command)
            if must_last and self._replication is not None:
                # It speaks of what this very connection has written.
                pipeline.execute_command("WAIT", 1, self._replication.timeout_ms)
            replies = await pipeline.execute(raise_on_error=False)
            if must_last and self._replication is not None:
                confirmed = replies.pop()
                self._replication.saw(confirmed if isinstance(confirmed, int) else 0)
        except BaseException as error:
            # Whoever waits must hear of it, whatever it is; a cancelled flush means that the loop is closing.
            for _, future in batch:
                if not future.done():
                    if isinstance(error, asyncio.CancelledError):
                        future.cancel()
                    else:
                        future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def drain(self) -> None:
        """Return when everything that was sent has been answered."""
        while self._waiting or self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)
            await asyncio.sleep(0)


def _encoded(item: Any) -> Any:
    if not isinstance(item, str):
        return item
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{item[:50]!r} holds half of a surrogate pair, which no text may") from error
