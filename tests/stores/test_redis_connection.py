"""Connections and the pipeline on a real Redis: Unix sockets, and commands that share a write but no fate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentq._redis.connection import Connection
from agentq._redis.pipeline import Pipeline
from agentq.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_unix_socket_serves_every_kind_of_client(redis_url: str, tmp_path: Path) -> None:
    over_tcp = Connection(redis_url)
    await over_tcp.client.set("k", "v")
    # A socket of our own that leads to the server.
    host, port = redis_url.removeprefix("redis://").partition("/")[0].split(":")

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(lead, path):
        connection = Connection(f"unix://{path}")
        assert connection.where == str(path)
        assert await connection.client.get("k") == b"v"
        blocking = connection.blocking_client()
        assert await blocking.get("k") == b"v"
        thread_client = connection.thread_client()
        assert await asyncio.to_thread(thread_client.get, "k") == b"v"
        thread_client.close()
        await blocking.aclose()
        await connection.aclose()
    await over_tcp.aclose()
    await asyncio.sleep(0.05)


async def test_text_without_a_utf8_form_is_the_fault_of_its_own_caller(redis_url: str) -> None:
    connection = Connection(redis_url)
    pipeline = Pipeline(connection)
    good = asyncio.create_task(pipeline.execute("SET", "b", "fine"))
    with pytest.raises(InvalidInput, match="surrogate"):
        await pipeline.execute("SET", "a", "\ud800")
    await good
    assert await connection.client.get("b") == b"fine"
    await connection.aclose()


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port/0", "localhost:6379"])
def test_what_is_no_redis_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not a Redis URL"):
        Connection(url)
