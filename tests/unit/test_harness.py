"""The fixtures that the other tests lean on do what they say."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT, wait_until, wait_until_sync

if TYPE_CHECKING:
    from tests._redis_server import RedisServer

pytest_plugins = ["pytester"]


def test_no_test_reaches_beyond_this_machine():
    with pytest.raises(RuntimeError, match="this machine only"):
        socket.getaddrinfo("example.com", 80)
    with socket.socket() as connection, pytest.raises(RuntimeError, match="this machine only"):
        connection.connect(("192.0.2.1", 80))


def test_a_redis_url_is_an_empty_server(redis_url: str):
    port = int(redis_url.removeprefix("redis://127.0.0.1:").removesuffix("/0"))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"DBSIZE\r\n")
        assert connection.recv(100) == b":0\r\n"


def test_a_server_comes_back_on_its_port_with_its_data(server: RedisServer):
    url = server.url
    server.command("SET answer 12")
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        server.command("PING")
    server.start()
    assert server.url == url
    assert server.command("STRLEN answer") == ":2"


def test_a_paused_server_goes_on_where_it_stood(server: RedisServer):
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(10)
        assert connection.recv(100) == b"+PONG\r\n"


def test_a_server_does_not_outlive_a_killed_pytest(tmp_path):
    program = (
        "import os, signal; from pathlib import Path; from tests._redis_server import RedisServer\n"
        f"server = RedisServer(Path({str(tmp_path)!r})); server.start(); print(server.port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    port = int(killed.stdout)

    def refused() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) != 0

    wait_until_sync(refused, message="the server is gone")


def test_a_test_that_leaves_a_task_behind_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_mode = auto")
    pytester.makepyfile("""
        import asyncio

        async def test_tidy():
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()

        async def test_untidy():
            global task
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
    """)
    result = pytester.runpytest_subprocess("-p", "tests.conftest")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_untidy*", "*forgotten: <coroutine object sleep*"])


def test_the_environment_of_the_developer_is_not_seen():
    assert not [name for name in os.environ if name.startswith(("AGENTQ_", "OPENAI_")) or name == "REDIS_URL"]


async def test_wait_until_says_what_it_saw():
    with pytest.raises(AssertionError, match="three items; last seen: 0"):
        await wait_until(lambda: 0, timeout=0, message="three items")
    with pytest.raises(AssertionError, match="last seen: None"):
        wait_until_sync(lambda: None, timeout=0)


async def test_wait_until_takes_sync_and_async_predicates_and_returns_their_value():
    answers = iter([0, 0, 3])

    async def ask() -> int:
        await asyncio.sleep(0)
        return next(answers)

    assert await wait_until(ask) == 3
    assert await wait_until(lambda: "yes") == "yes"
