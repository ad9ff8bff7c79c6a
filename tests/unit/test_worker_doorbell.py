"""The doorbell rings once for each arming, survives lost connections, and polls a server that loses elements."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from agentq.worker.doorbell import Doorbell, Nudge
from agentq.worker.outage import Outage
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest
    import redis.asyncio


class Server:
    """Lists that can be waited for; stands for the connection and its clients, too."""

    def __init__(self, *, is_fake: bool = False) -> None:
        self.full: set[str] = set()
        self.commands: list[str] = []
        self.failures = 0
        self.bugs = 0
        self._is_fake = is_fake
        self._changed = asyncio.Event()

    def push(self, key: str) -> None:
        self.full.add(key)
        self._changed.set()

    def blocking_client(self) -> redis.asyncio.Redis:
        self.commands.append("connect")
        return cast("redis.asyncio.Redis", self)

    async def info(self, section: str) -> dict[str, str]:
        assert section == "server"
        if self.bugs:
            self.bugs -= 1
            raise TypeError("a bug")
        if self.failures:
            self.failures -= 1
            raise ConnectionLost("connection refused")
        if self._is_fake:
            raise ResponseError("unknown command 'info', with args beginning with: ")
        return {}

    async def blmove(self, source: str, target: str, timeout: int, src: str, dest: str) -> bytes | None:
        assert (source, src) == (target, dest) == (source, "LEFT")
        assert timeout > 0
        self.commands.append(f"blmove {source}")
        while source not in self.full:
            self._changed.clear()
            await self._changed.wait()
        return b"job"

    async def llen(self, key: str) -> int:
        self.commands.append(f"llen {key}")
        return int(key in self.full)

    async def aclose(self) -> None:
        self.commands.append("close")


@asynccontextmanager
async def hung(server: Server, *keys: str) -> AsyncIterator[tuple[Doorbell, Nudge]]:
    nudge = Nudge()
    bell = Doorbell(server, keys or ("q",), nudge=nudge, outage=Outage("test"))
    bell.start()
    try:
        yield bell, nudge
    finally:
        await bell.stop()


async def test_it_rings_when_something_is_pushed():
    server = Server()
    async with hung(server) as (bell, nudge):
        bell.arm()
        await wait_until(lambda: server.commands == ["connect", "blmove q"])
        assert not bell.has_rung()
        server.push("q")
        await nudge.wait(5)
        assert bell.has_rung()
        assert not bell.has_rung()
    assert server.commands[-1] == "close"


async def test_it_asks_nothing_more_until_it_is_armed_again():
    server = Server()
    server.push("q")
    async with hung(server) as (bell, nudge):
        for times in (1, 2):
            bell.arm()
            await nudge.wait(5)
            for _ in range(20):
                await asyncio.sleep(0)
            assert server.commands.count("blmove q") == times


async def test_each_queue_rings():
    server = Server()
    async with hung(server, "high", "low") as (bell, nudge):
        bell.arm()
        server.push("low")
        await nudge.wait(5)
        assert bell.has_rung()


async def test_a_lost_connection_is_replaced():
    server = Server()
    server.failures = 2
    server.push("q")
    async with hung(server) as (bell, nudge):
        bell.arm()
        await nudge.wait(5)
        assert bell.has_rung()
    assert server.commands[:5] == ["connect", "close", "connect", "close", "connect"]


async def test_a_bug_is_logged_and_the_bell_is_hung_anew(caplog: pytest.LogCaptureFixture):
    server = Server()
    server.bugs = 1
    server.push("q")
    async with hung(server) as (bell, nudge):
        bell.arm()
        await nudge.wait(5)
        assert bell.has_rung()
    assert server.commands[:3] == ["connect", "close", "connect"]
    assert "doorbell q failed; it goes on" in caplog.text
    assert "TypeError: a bug" in caplog.text


async def test_a_server_without_info_is_polled():
    server = Server(is_fake=True)
    async with hung(server) as (bell, nudge):
        bell.arm()
        await wait_until(lambda: server.commands.count("llen q") > 1)
        assert not bell.has_rung()
        server.push("q")
        await nudge.wait(5)
        assert bell.has_rung()
    assert "blmove q" not in server.commands


async def test_a_nudge_before_the_wait_is_not_lost_and_counts_once():
    nudge = Nudge()
    nudge()
    nudge()
    await asyncio.wait_for(nudge.wait(60), 5)
    began = time.monotonic()
    await nudge.wait(0.05)
    assert time.monotonic() - began >= 0.04
