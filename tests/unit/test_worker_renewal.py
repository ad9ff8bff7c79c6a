"""Leases are renewed by a thread, whatever the event loop does, unless it stands still for too long."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agentq.errors import StoreUnavailable
from agentq.stores.base import Lease, Renewal
from agentq.worker.outage import Outage
from agentq.worker.renewal import LeaseRenewal
from tests.helpers import wait_until
from tests.unit._worker import renewal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest


LEASE = Lease("R1", 1, "w1")


class Held:
    """Notes what it is told, and in which thread."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def lose(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.told.append("lose")

    def cancel(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.told.append("cancel")


class Server:
    """Answers renewals as the test says and counts them."""

    def __init__(self) -> None:
        self.held = True
        self.cancelled = False
        self.error: Exception | None = None
        self.batches: list[int] = []

    def renew(self, leases: Sequence[Lease]) -> tuple[Renewal, ...]:
        self.batches.append(len(leases))
        if self.error is not None:
            raise self.error
        return tuple(
            Renewal(lease.run_id, held=self.held, signals=0, cancel_requested=self.cancelled) for lease in leases
        )


@asynccontextmanager
async def running(server: Server, stall_limit_ms: int = 60_000) -> AsyncIterator[LeaseRenewal]:
    leases = renewal(server.renew, stall_limit_ms=stall_limit_ms)
    leases.start()
    try:
        yield leases
    finally:
        await leases.stop()


async def test_a_blocked_event_loop_does_not_stop_renewal():
    server = Server()
    async with running(server) as leases:
        leases.add(LEASE, Held())
        await wait_until(lambda: server.batches)
        before = len(server.batches)
        time.sleep(0.5)  # noqa: ASYNC251  # what a bad tool does
        assert len(server.batches) >= before + 2


async def test_a_loop_that_stands_still_too_long_loses_its_leases_until_it_moves(caplog: pytest.LogCaptureFixture):
    server = Server()
    async with running(server, stall_limit_ms=200) as leases:
        leases.add(LEASE, Held())
        await wait_until(lambda: server.batches)
        time.sleep(0.6)  # noqa: ASYNC251
        before = len(server.batches)
        time.sleep(0.4)  # noqa: ASYNC251
        assert len(server.batches) == before
        await wait_until(lambda: len(server.batches) > before)
    assert sum("has stood still" in record.getMessage() for record in caplog.records) == 1
    assert sum("moves again" in record.getMessage() for record in caplog.records) == 1


async def test_all_leases_go_out_together_in_large_batches():
    server = Server()
    async with running(server) as leases:
        for number in range(1100):
            leases.add(Lease(f"R{number}", 1, "w1"), Held())
        await wait_until(lambda: server.batches[-3:] == [500, 500, 100])


async def test_a_lost_lease_is_told_once_and_not_renewed_again():
    server, held = Server(), Held()
    server.held = False
    async with running(server) as leases:
        leases.add(LEASE, held)
        await wait_until(lambda: held.told)
        count = len(server.batches)
        leases.add(Lease("R2", 1, "w1"), Held())
        await wait_until(lambda: len(server.batches) > count)
    assert held.told == ["lose"]
    assert server.batches[-1] == 1


async def test_a_cancel_is_told():
    server, held = Server(), Held()
    server.cancelled = True
    async with running(server) as leases:
        leases.add(LEASE, held)
        await wait_until(lambda: held.told)
    assert set(held.told) == {"cancel"}


async def test_who_has_ended_is_told_nothing():
    server, held, asked = Server(), Held(), threading.Event()
    answer = threading.Event()

    def renew(leases: Sequence[Lease]) -> tuple[Renewal, ...]:
        asked.set()
        answer.wait(5)
        return server.renew(leases)

    server.held = False
    leases = renewal(renew)
    leases.add(LEASE, held)
    leases.start()
    await wait_until(asked.is_set)
    leases.drop(LEASE)
    answer.set()
    await leases.stop()
    await asyncio.sleep(0)
    assert held.told == []


async def test_it_goes_on_when_redis_was_away_or_a_bug_struck(caplog: pytest.LogCaptureFixture):
    server = Server()
    async with running(server) as leases:
        leases.add(LEASE, Held())
        server.error = StoreUnavailable()
        await wait_until(lambda: len(server.batches) > 3)
        server.error = ValueError("a bug")
        await wait_until(lambda: "agentq-renewal failed" in caplog.text)
        server.error = None
        count = len(server.batches)
        await wait_until(lambda: len(server.batches) > count + 1)
    assert sum("is away" in record.getMessage() for record in caplog.records) == 1


async def test_stopping_closes_the_connection():
    closed = threading.Event()
    leases = LeaseRenewal(Server().renew, lease_ms=300, stall_limit_ms=60_000, outage=Outage("test"), close=closed.set)
    leases.start()
    await leases.stop()
    assert closed.is_set()
