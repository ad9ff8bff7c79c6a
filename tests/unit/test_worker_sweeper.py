"""The sweeper wakes what a sweep finds, again and again, and a burst knows when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from agentq.errors import RunNotFound, StoreUnavailable
from agentq.runs import RunState, Status
from agentq.stores.base import Store, Sweep
from agentq.worker.burst import Burst
from agentq.worker.outage import Outage
from agentq.worker.sweeper import Sweeper
from tests.helpers import wait_until
from tests.unit._worker import outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from agentq.stores.base import Wakeup


class Redis:
    """A store whose sweeps find what the test says, and an executor that notes whom it wakes."""

    def __init__(self, *finds: Sweep | Exception) -> None:
        self.finds = list(finds)
        self.sweeps = 0
        self.woken: list[str] = []
        self.status: dict[str, Status] = {}

    async def pauses(self) -> dict[str, object]:
        return {}

    async def sweep(
        self, *, lease_ms: int, wake: Wakeup | None = None, limit: int = 100, agents: Sequence[str] = ()
    ) -> Sweep:
        assert (lease_ms, wake, agents) == (1000, None, ())
        self.sweeps += 1
        found = self.finds.pop(0) if self.finds else Sweep()
        if isinstance(found, Exception):
            raise found
        return found

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        if run_id == "gone":
            raise RunNotFound
        self.woken.append(run_id)

    async def read(self, run_id: str) -> RunState:
        if run_id not in self.status:
            raise RunNotFound
        return RunState(run_id, "echo", self.status[run_id])


def sweeper(redis: Redis) -> Sweeper:
    return Sweeper(cast("Store", redis), redis, wakeup=None, lease_ms=1000, sweep_ms=1, outage=Outage("test"))


async def test_runs_that_the_store_could_not_wake_are_woken_by_the_executor():
    redis = Redis(Sweep(woken=("R1",), to_wake=("R2", "gone", "R3")))
    await sweeper(redis).sweep()
    assert redis.woken == ["R2", "R3"]


async def test_it_goes_on_after_an_outage_and_after_a_bug(caplog: pytest.LogCaptureFixture):
    redis = Redis(StoreUnavailable(), Sweep(to_wake=("R1",)), ValueError("a bug"), Sweep(to_wake=("R2",)))
    sweeping = sweeper(redis)
    sweeping.start()
    await wait_until(lambda: redis.woken == ["R1", "R2"])
    await sweeping.stop()
    assert [record.getMessage() for record in caplog.records] == ["sweeper failed; it goes on"]
    count = redis.sweeps
    await asyncio.sleep(0.01)
    assert redis.sweeps == count


async def test_stopping_what_was_not_started_is_fine():
    await sweeper(Redis()).stop()


async def test_a_burst_waits_for_a_run_of_its_own_that_is_to_be_tried_again():
    redis = Redis()
    burst = Burst(cast("Store", redis), sweeper(redis))
    burst.saw(outcome("R1", Status.QUEUED))
    redis.status["R1"] = Status.QUEUED
    assert not await burst.is_over()
    redis.status["R1"] = Status.RUNNING  # another worker has it
    assert await burst.is_over()


async def test_a_burst_does_not_wait_for_runs_that_ended_or_were_handed_on_or_are_gone():
    redis = Redis()
    burst = Burst(cast("Store", redis), sweeper(redis))
    burst.saw(outcome("R1", Status.QUEUED))
    burst.saw(outcome("R1", Status.COMPLETED))
    burst.saw(outcome("R2", Status.QUEUED, kind="released"))
    burst.saw(outcome("R3", Status.QUEUED))
    redis.status = {"R1": Status.QUEUED, "R2": Status.QUEUED}
    assert await burst.is_over()


async def test_a_burst_is_not_over_when_a_sweep_finds_work():
    redis = Redis(Sweep(woken=("R1",)), Sweep(to_wake=("R2",)))
    burst = Burst(cast("Store", redis), sweeper(redis))
    assert not await burst.is_over()
    assert not await burst.is_over()
    assert await burst.is_over()
