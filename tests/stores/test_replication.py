"""durability="replicated": a write waits for a replica, and it is said when there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from agentq.errors import InvalidInput
from agentq.runs import Status
from agentq.settings import Settings
from agentq.testing._contract import batch, claimed, commit_of, queued, reply_message
from agentq.wiring import redis_parts
from tests._redis_server import RedisServer
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agentq.wiring import Parts


@pytest.fixture
def replica(server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "replica"
    folder.mkdir()
    replica = RedisServer(folder)
    replica.start()
    replica.command(f"REPLICAOF 127.0.0.1 {server.port}")
    yield replica
    replica.kill()


@pytest.fixture
async def parts(server: RedisServer) -> AsyncIterator[Parts]:
    parts = redis_parts(Settings(redis_url=server.url, durability="replicated", replication_timeout_ms=200))
    yield parts
    await parts.aclose()


async def until_in_step(server: RedisServer, replica: RedisServer) -> None:
    await wait_until(lambda: server.is_copied_to(replica), timeout=20, message="the replica keeps up")


async def test_what_was_acknowledged_is_at_the_replica(
    server: RedisServer, replica: RedisServer, parts: Parts, caplog: pytest.LogCaptureFixture
):
    await until_in_step(server, replica)
    run_id = await queued(parts.store)
    claim = await claimed(parts.store, run_id)
    await parts.store.journal(claim.lease, [], batch(1))
    await parts.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done"), batch=batch(2)))
    server.kill()
    replica.command("REPLICAOF NO ONE")
    there = redis_parts(Settings(redis_url=replica.url))
    assert (await there.store.read(run_id)).status is Status.COMPLETED
    await there.aclose()
    assert "no replica" not in caplog.text


async def test_without_a_replica_the_work_goes_on_and_the_log_says_so_once(
    parts: Parts, caplog: pytest.LogCaptureFixture
):
    began = time.monotonic()
    run_id = await queued(parts.store)
    assert time.monotonic() - began >= 0.2
    claim = await claimed(parts.store, run_id)
    committed = await parts.store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
    assert committed.status is Status.COMPLETED
    assert caplog.text.count("no replica of Redis at") == 1


async def test_it_is_said_when_a_replica_keeps_up_again(
    server: RedisServer, replica: RedisServer, parts: Parts, caplog: pytest.LogCaptureFixture
):
    await until_in_step(server, replica)
    replica.pause()
    await queued(parts.store)
    assert "no replica of Redis at" in caplog.text
    replica.resume()
    await until_in_step(server, replica)
    await queued(parts.store)
    assert "keeps up again" in caplog.text


async def test_acknowledged_waits_for_nobody(server: RedisServer, caplog: pytest.LogCaptureFixture):
    parts = redis_parts(Settings(redis_url=server.url))
    await queued(parts.store)
    await parts.aclose()
    assert "cmdstat_wait" not in command_statistics(server)
    assert caplog.text == ""


def command_statistics(server: RedisServer) -> str:
    import redis

    with redis.Redis.from_url(server.url) as client:
        return str(client.info("commandstats"))


def test_the_setting_is_checked():
    with pytest.raises(InvalidInput, match='durability must be "acknowledged" or "replicated"'):
        Settings(durability="twice")
    assert Settings.load({"AGENTQ_DURABILITY": "replicated"}).durability == "replicated"
