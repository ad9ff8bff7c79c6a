"""Fixtures for every test: a real Redis of its own, and what no test may do: leave tasks, leave this machine."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from pytest_asyncio import is_async_test

from tests._redis_server import RedisServer, ServerMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

# What would change the answer of a test on a developer's machine.
_OURS = ("AGENTQ_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_")
_OTHERS = {
    *("REDIS_URL", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
}

# A slow machine is not a wrong answer.
hypothesis.settings.register_profile("agentq", deadline=None)
hypothesis.settings.load_profile("agentq")


@pytest.fixture(scope="session")
def _session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from _running(tmp_path_factory.mktemp("redis"), durable=False)


@pytest.fixture
def redis_url(_session_server: RedisServer) -> str:
    """A real Redis, empty. One server for each xdist worker."""
    _session_server.flush()
    return _session_server.url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone, to pause, kill and restart. It has its data again after a restart."""
    folder = tmp_path / "redis"
    folder.mkdir()
    yield from _running(folder, durable=True)


def _running(folder: Path, *, durable: bool) -> Iterator[RedisServer]:
    try:
        redis = RedisServer(folder, durable=durable)
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """No test sees what would change its answer, nor what another one has left: guide pages set variables."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(_OURS) or name.upper() in _OTHERS:
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


class NetworkAccess(RuntimeError):
    """A test may reach this machine only."""


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """Refuse names and addresses beyond loopback. Processes that a test starts are not covered."""

    def refuse_name(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not (name is None or _is_loopback(name)):
            raise NetworkAccess(f"a test looked up {name!r}: tests may reach this machine only")
        return getaddrinfo(host, *args, **kwargs)

    def guarded(connect: Any) -> Any:
        def refuse_address(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise NetworkAccess(f"a test connected to {address!r}: tests may reach this machine only")
            return connect(self, address)

        return refuse_address

    getaddrinfo = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse_name)
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        yield


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "0.0.0.0", "") or host.startswith("127.")  # noqa: S104


@pytest.fixture(autouse=True)
def _leftover_tasks(request: pytest.FixtureRequest) -> None:
    if is_async_test(request.node):
        request.getfixturevalue("_no_leftover_tasks")


@pytest.fixture
async def _no_leftover_tasks() -> AsyncIterator[None]:
    """Fail an async test that ends while tasks it started still run, its fixtures' teardown included."""
    yield
    # A task that was cancelled or has returned needs a few turns of the loop to be done.
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    if left:
        names = "\n".join(f"  {task.get_name()}: {task.get_coro()}" for task in left)
        pytest.fail(f"the test left tasks behind:\n{names}", pytrace=False)
