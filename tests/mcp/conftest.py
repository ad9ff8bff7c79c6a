"""A real MCP server as a child process, over stdio or HTTP, that tests may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentq.mcp import MCPServer
from agentq.runs import RunState, Status
from agentq.tools.context import ToolContext
from tests.helpers import wait_until, wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.tools.function import Tool

SCRIPT = str(Path(__file__).parent / "server.py")
RUN = RunState("R", "clerk", Status.RUNNING)


class Log:
    """What the server was asked, as it wrote it down."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines() if line.startswith("start ")]

    def has(self, word: str) -> bool:
        return any(line.split()[0] == word for line in self.lines())

    async def wait_for(self, word: str) -> None:
        await wait_until(lambda: self.has(word), message=f"{word} is in the server's log")

    def kill(self) -> None:
        """End the server without ceremony."""
        os.kill(self.pids()[-1], signal.SIGKILL)


class HttpServer:
    """The server over HTTP, to kill and start again on the same port."""

    def __init__(self, log: Log) -> None:
        self.log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, SCRIPT, str(self.log.path), str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until_sync(self._listens)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "called.log")


@pytest.fixture
def http(log: Log) -> Iterator[HttpServer]:
    server = HttpServer(log)
    server.start()
    yield server
    server.kill()


def over_stdio(log: Log, **options: Any) -> MCPServer:
    return MCPServer("shop", command=[sys.executable, SCRIPT, str(log.path)], **options)


async def tools_of(server: MCPServer) -> dict[str, Tool]:
    return {tool.name: tool for tool in await server.tools_for(RUN)}


async def use(tool: Tool, **arguments: Any) -> Any:
    """Call the tool as the loop does, but for what the loop does with its exceptions."""
    context = ToolContext(run_id="R", call_id="c", idempotency_key="c", attempt=1)
    return await tool.function(agentq_context=context, **tool.bind(arguments))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
