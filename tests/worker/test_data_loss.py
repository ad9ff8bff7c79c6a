"""A Redis that lost what it had acknowledged: it is noticed, and no call with an effect is repeated in silence."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from agentq import Agent, AgentQ, AsyncClient, Settings, tool
from agentq.errors import DataLost, LeaseLost, RunFailed
from agentq.events.model import DataLostEvent, TextDelta
from agentq.runs import Status
from agentq.stores._epochs import read_losses
from agentq.stores.base import Lease, StepRecord
from agentq.testing import ScriptedModel, call
from agentq.testing._contract import batch, claimed, commit_of, reply_message, running
from agentq.wiring import Parts, redis_parts
from agentq.worker.vigil import Vigil
from tests.helpers import wait_until
from tests.worker.harness import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests._redis_server import RedisServer

LEASE_MS = 60_000


class Snapshots:
    """Brings a Redis back to where it was, as a failover to a replica that was behind would."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server = server
        self._kept = folder / "kept"

    def take(self) -> None:
        self._server.command("BGREWRITEAOF")
        self._server.kill()
        shutil.copytree(self._server.folder, self._kept)
        self._server.start()

    def restore(self) -> None:
        self._server.kill()
        for old in self._server.folder.iterdir():
            if old.name.startswith("appendonly") or old.suffix in (".aof", ".rdb"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for kept in self._kept.iterdir():
            if kept.name.startswith("appendonly") or kept.suffix in (".aof", ".rdb"):
                if kept.is_dir():
                    shutil.copytree(kept, self._server.folder / kept.name)
                else:
                    shutil.copy(kept, self._server.folder)
        self._server.start()


@pytest.fixture
def snapshots(server: RedisServer, tmp_path: Path) -> Snapshots:
    return Snapshots(server, tmp_path)


@pytest.fixture
async def parts(server: RedisServer) -> AsyncIterator[Parts]:
    parts = redis_parts(Settings(redis_url=server.url))
    yield parts
    await parts.aclose()


async def test_a_fence_that_was_given_out_once_is_not_believed_twice(parts: Parts, snapshots: Snapshots):
    store = parts.store
    first = await running(store)
    await store.commit(first.lease, commit_of(first, Status.QUEUED, reply_message("one")))
    snapshots.take()
    lost = await claimed(store, first.lease.run_id, owner="w1")
    snapshots.restore()
    with pytest.raises(DataLost):
        await store.journal(lost.lease, [], batch(1))
    # Another worker gets the same fence; the first one is not taken for it.
    other = await claimed(store, first.lease.run_id, owner="w2")
    assert other.lease.fence == lost.lease.fence
    with pytest.raises(LeaseLost):
        await store.journal(lost.lease, [], batch(1))
    assert [each.held for each in await store.renew([lost.lease, other.lease], lease_ms=LEASE_MS)] == [False, True]
    await store.journal(other.lease, [], batch(1, TextDelta(text="x")))


async def test_a_step_that_was_acknowledged_and_is_gone_is_noticed_by_the_next(parts: Parts, snapshots: Snapshots):
    store = parts.store
    claim = await running(store)
    snapshots.take()
    await store.journal(claim.lease, [StepRecord("reply", b"1")], batch(1))
    snapshots.restore()
    with pytest.raises(DataLost):
        await store.journal(claim.lease, [StepRecord("R.1.0", b"1")], batch(2))
    with pytest.raises(DataLost):
        await store.release(claim.lease, batch(2))


async def test_a_run_that_is_marked_stops_where_a_call_may_have_been_made(parts: Parts):
    store = parts.store
    claim = await running(store)
    assert await store.report_loss(Lease(claim.lease.run_id, 7, "w1"), unsure=True)
    assert await store.report_loss(Lease(claim.lease.run_id, 7, "w1"), unsure=True)
    run = await store.read(claim.lease.run_id)
    assert (run.unsure, run.signals, run.lost_ms > 0) == (True, 1, True)
    assert (await read_losses(store.pipeline, store.keys)).losses == 1
    committed = await store.commit(claim.lease, commit_of(claim, Status.COMPLETED, reply_message("done")))
    assert committed.status is Status.QUEUED
    # A fence that a worker had is never given out again.
    await store.report_loss(Lease(claim.lease.run_id, 9, "w1"), unsure=True)
    assert (await claimed(store, claim.lease.run_id)).lease.fence == 10
    assert not await store.report_loss(Lease("01JD3ZK8W5Q0X9V7T2M4N6P8RA", 1, "w1"), unsure=False)


async def test_a_commit_that_is_gone_takes_its_calls_along(parts: Parts, snapshots: Snapshots):
    """The iteration in flight only reads; the one before it, whose commit was lost too, may have paid."""
    store = parts.store
    first = await running(store)
    snapshots.take()
    await store.commit(first.lease, commit_of(first, Status.QUEUED, reply_message("paid")))
    second = await claimed(store, first.lease.run_id, owner="w1")
    snapshots.restore()
    with pytest.raises(DataLost):
        await store.journal(second.lease, [], batch(1))
    assert await store.report_loss(second.lease, unsure=False, committed=second.run.committed)
    assert (await store.read(first.lease.run_id)).unsure


async def test_who_knows_of_an_effect_is_heard_after_who_does_not(parts: Parts):
    claim = await running(parts.store)
    run_id = claim.lease.run_id
    await parts.store.report_loss(Lease(run_id, 7, "w1"), unsure=False)
    assert not (await parts.store.read(run_id)).unsure
    for _ in range(2):
        await parts.store.report_loss(Lease(run_id, 6, "w1"), unsure=True)
        run = await parts.store.read(run_id)
        assert (run.unsure, run.signals) == (True, 2)
    await parts.store.report_loss(Lease(run_id, 7, "w1"), unsure=False)
    assert (await parts.store.read(run_id)).signals == 2


async def test_a_call_whose_record_was_lost_is_not_repeated(
    server: RedisServer, snapshots: Snapshots, caplog: pytest.LogCaptureFixture
):
    """The tool charged, its record was acknowledged, and Redis came back without it."""
    charged = 0
    read = asyncio.Event()

    @tool(effect="once")
    async def charge() -> str:
        """Charge."""
        nonlocal charged
        charged += 1
        return "charged"

    @tool(effect="none")
    async def look() -> str:
        """Look, slowly."""
        await read.wait()
        return "seen"

    agent = Agent("shop", model="scripted", tools=[charge, look])
    # Of two looks the first that ends is journaled.
    model = ScriptedModel([[call("charge"), call("look"), call("look")], "Done."])
    app = AgentQ([agent], models={"scripted": model}, settings=Settings(redis_url=server.url))
    async with working(app), AsyncClient(server.url) as client:
        run = await client.enqueue("shop", "Charge.")
        await wait_until(lambda: charged == 1, timeout=10)
        await asyncio.sleep(0.2)
        # A replica that was behind: it has the run as it was before the model was asked.
        server.command(f"DEL agentq:{{{run.id}}}:journal")
        server.command(f"HDEL agentq:{{{run.id}}} batch")
        read.set()
        with pytest.raises(RunFailed):
            await run.result(timeout=20)
        state = await run.read()
        assert (state.status, charged) == (Status.FAILED, 1)
        assert "Redis has lost a part" in (state.last_error or "")
        events = [event async for event in run.events(live=False)]
        assert [event.unsure for event in events if isinstance(event, DataLostEvent)] == [True]
        assert "Redis has lost a part of run" in caplog.text


async def test_commits_of_the_last_minute_are_looked_for_when_the_server_has_changed(
    server: RedisServer, snapshots: Snapshots, caplog: pytest.LogCaptureFixture
):
    done = 0

    @tool(effect="idempotent")
    async def work() -> str:
        """Work."""
        nonlocal done
        done += 1
        return "worked"

    agent = Agent("shop", model="scripted", tools=[work])
    model = ScriptedModel([call("work"), "Done."])
    app = AgentQ([agent], models={"scripted": model}, settings=Settings(redis_url=server.url))
    async with AsyncClient(server.url) as client:
        kept = await client.enqueue("shop", "Work.", delay=3600)
        snapshots.take()
        async with working(app):
            gone = await client.enqueue("shop", "Work.")
            assert (await gone.result(timeout=10)).output == "Done."
            await asyncio.sleep(Vigil.EVERY_S * 1.5)
            snapshots.restore()
            await wait_until(lambda: f"Redis has lost run {gone.id} altogether" in caplog.text, timeout=20)
        assert "was restarted or replaced (epoch" in caplog.text
        assert (await kept.read()).lost_ms == 0
    assert done == 1


async def test_a_restart_that_loses_nothing_marks_nothing(
    server: RedisServer, parts: Parts, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    app = AgentQ([Agent("echo")], settings=Settings(redis_url=server.url))
    async with working(app), AsyncClient(server.url) as client:
        run = await client.enqueue("echo", "Hello.")
        await run.result(timeout=10)
        await asyncio.sleep(Vigil.EVERY_S * 1.5)
        server.restart()
        await wait_until(lambda: "all 1 runs committed lately are there" in caplog.text, timeout=20)
        assert (await run.read()).lost_ms == 0
        losses = await read_losses(parts.store.pipeline, parts.store.keys)
        assert (losses.number, losses.losses) == (2, 0)
