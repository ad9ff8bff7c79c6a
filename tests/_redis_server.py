"""A redis-server (or valkey-server) for the tests alone: a free port, a folder of its own, gone when pytest is."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

from agentq import private_redis

if TYPE_CHECKING:
    from pathlib import Path


class ServerMissing(Exception):
    """Neither redis-server nor valkey-server is on PATH."""


class RedisServer(private_redis.RedisServer):
    """A private server that tests can upset.

    With `durable`, what was acknowledged is there again after a `kill` (an append-only file).
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        program = private_redis.find_program()
        if program is None:
            raise ServerMissing(f"the tests need redis-server or valkey-server; install one: {private_redis.INSTALL}")
        super().__init__(program, folder, durable=durable)

    def restart(self) -> None:
        """`kill` and `start` on the same port with the same folder."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop answering; connections stay open."""
        self.child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self.child.send(signal.SIGCONT)

    def is_copied_to(self, replica: RedisServer) -> bool:
        """Whether the replica has what was written before this was asked for the first time."""
        self.command("SET agentq-test-marker x NX EX 60")
        return replica.command("EXISTS agentq-test-marker") == ":1"

    def flush(self) -> None:
        """Delete every key and forget every script."""
        self.command("FLUSHALL")
        self.command("SCRIPT FLUSH")

    def command(self, line: str) -> str:
        """Send one inline command and return the first line of the answer. Needs no client library."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.makefile().readline().rstrip()
