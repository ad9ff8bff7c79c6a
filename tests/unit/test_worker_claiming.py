"""The claim loop: as many as there is room for, nothing twice, nothing in a spin, nothing lost when Redis goes away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from agentq.errors import StoreCorrupted, StoreUnavailable
from agentq.stores._claims import ClaimedWakeups
from agentq.worker.claiming import ClaimLoop
from agentq.worker.doorbell import Doorbell, Nudge
from agentq.worker.outage import Outage
from tests.helpers import wait_until
from tests.unit._worker import ScriptedLoop, claim, slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    import pytest

    from agentq.worker.suspension import Suspension


class Queue:
    """The wake-ups that wait, and the doorbell at them."""

    def __init__(self, *run_ids: str) -> None:
        self.waiting = list(run_ids)
        self.foreign: tuple[str, ...] = ()
        self.errors: list[Exception] = []
        self.asked: list[tuple[str, int]] = []
        self.rejected: list[str] = []
        self.rejections_fail = 0
        self.suspects: set[str] = set()
        self.named_runs: list[str] = []
        self.fence = 0
        self.nudge = Nudge()
        self.is_paused = False
        self.not_watched: list[tuple[str, ...]] = []
        self._armed = False
        self._rung = False

    async def named(self, claim_id: str, run_id: str) -> ClaimedWakeups:
        self.named_runs.append(run_id)
        await asyncio.sleep(0)
        self.fence += 1
        return ClaimedWakeups((claim(run_id, self.fence, recoveries=3),), 0, ())

    async def wakeups(self, claim_id: str, count: int, *, is_idle: bool) -> ClaimedWakeups:
        self.asked.append((claim_id, count))
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if self.is_paused:
            return ClaimedWakeups((), 0, (), None, ("list",))
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        foreign, self.foreign = self.foreign, ()
        self.fence += 1
        suspect = next((run_id for run_id in taken if run_id in self.suspects), None)
        if suspect is not None and not is_idle:
            # As the script does: it takes nothing after a suspect.
            taken, rest = taken[: taken.index(suspect)], taken[taken.index(suspect) + 1 :]
            self.waiting[:0] = rest
            claims = tuple(claim(run_id, self.fence) for run_id in taken)
            return ClaimedWakeups(claims, len(taken) + 1, foreign, suspect)
        return ClaimedWakeups(tuple(claim(run_id, self.fence) for run_id in taken), len(taken) + len(foreign), foreign)

    async def reject(self, job_ids: Sequence[str]) -> None:
        if self.rejections_fail:
            self.rejections_fail -= 1
            raise StoreUnavailable
        self.rejected.extend(job_ids)

    def push(self, run_id: str) -> None:
        self.waiting.append(run_id)
        self._ring()

    def arm(self, *, without: Collection[str] = ()) -> None:
        self.not_watched.append(tuple(without))
        self._armed = "list" not in without
        if self.waiting and self._armed:
            self._ring()

    def has_rung(self) -> bool:
        rung, self._rung = self._rung, False
        return rung

    def _ring(self) -> None:
        if self._armed:
            self._armed, self._rung = False, True
            self.nudge()


class Claiming:
    def __init__(self, queue: Queue, *, concurrency: int, burst: list[bool | Exception] | None = None) -> None:
        self.queue = queue
        self.loop = ScriptedLoop()
        self.slots = slots(self.loop, concurrency=concurrency, on_room=queue.nudge)
        self.stopping = asyncio.Event()
        self.answers = burst
        self.is_on = False

        async def is_over() -> bool:
            assert self.answers is not None
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.slots.tells_every_end = burst is not None
        self.task = asyncio.create_task(
            ClaimLoop(
                queue,
                queue.reject,
                slots=self.slots,
                doorbell=cast("Doorbell", queue),
                nudge=queue.nudge,
                outage=Outage("test"),
                suspension=cast("Suspension", self),
                stopping=self.stopping,
                is_over=is_over if burst is not None else None,
            ).run()
        )

    @property
    def may_claim(self) -> bool:
        return not self.is_on

    @property
    def begun(self) -> list[str]:
        return [iteration.claim.run.run_id for iteration in self.loop.begun]


@asynccontextmanager
async def claiming(
    queue: Queue, concurrency: int = 100, burst: list[bool | Exception] | None = None
) -> AsyncIterator[Claiming]:
    running = Claiming(queue, concurrency=concurrency, burst=burst)
    try:
        yield running
        running.stopping.set()
        queue.nudge()
        await asyncio.wait_for(running.task, 5)
    finally:
        running.task.cancel()
        await running.slots.abandon()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_it_asks_for_what_fits_and_at_most_64():
    queue = Queue(*(f"R{number}" for number in range(200)))
    async with claiming(queue, concurrency=100) as running:
        await wait_until(lambda: len(running.begun) == 100)
        await settle()
        assert [count for _, count in queue.asked] == [64, 36]
        running.loop.begun[0].finish()
        await wait_until(lambda: len(running.begun) == 101)
        await settle()
        assert [count for _, count in queue.asked] == [64, 36, 1]
        assert running.begun == [f"R{number}" for number in range(101)]


async def test_an_idle_worker_asks_once_and_then_waits_for_the_doorbell():
    queue = Queue()
    async with claiming(queue) as running:
        await settle()
        assert len(queue.asked) == 1
        queue.push("R1")
        await wait_until(lambda: running.begun == ["R1"])
        await settle()
        assert len(queue.asked) == 2


async def test_each_claim_has_an_id_of_its_own():
    queue = Queue(*(f"R{number}" for number in range(70)))
    async with claiming(queue) as running:
        await wait_until(lambda: len(running.begun) == 70)
    assert len({claim_id for claim_id, _ in queue.asked}) == 2


async def test_a_claim_whose_reply_was_lost_is_asked_for_again_with_its_id():
    queue = Queue("R1")
    queue.errors = [StoreUnavailable(), StoreUnavailable()]
    async with claiming(queue) as running:
        await wait_until(lambda: running.begun == ["R1"])
    assert len(queue.asked) == 3
    assert len(set(queue.asked)) == 1


async def test_data_that_cannot_be_read_does_not_end_the_work(caplog: pytest.LogCaptureFixture):
    queue = Queue("R1")
    queue.errors = [StoreCorrupted("a stored message cannot be read")]
    async with claiming(queue) as running:
        await wait_until(lambda: running.begun == ["R1"])
    assert "a stored message cannot be read" in caplog.text
    assert len({claim_id for claim_id, _ in queue.asked}) == 2


async def test_a_bug_of_the_loop_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture):
    queue = Queue("R1")
    async with claiming(queue, burst=[TypeError("a bug"), True]) as running:
        await wait_until(lambda: running.begun == ["R1"])
        running.loop.begun[0].finish()
        await wait_until(lambda: "the claim loop failed" in caplog.text)
        await asyncio.wait_for(running.task, 5)
    assert "TypeError: a bug" in caplog.text


async def test_foreign_jobs_are_rejected_and_others_go_on():
    queue = Queue("R1")
    queue.foreign = ("alien",)
    queue.rejections_fail = 2
    async with claiming(queue) as running:
        await wait_until(lambda: queue.rejected == ["alien"])
        assert running.begun == ["R1"]


async def test_a_stop_does_not_wait_for_redis_to_reject_foreign_jobs(caplog: pytest.LogCaptureFixture):
    queue = Queue()
    queue.foreign = ("alien",)
    queue.rejections_fail = 1_000_000
    async with claiming(queue):
        await wait_until(lambda: queue.rejections_fail < 1_000_000)
    assert "neither run nor marked: ('alien',)" in caplog.text


async def test_a_stop_claims_nothing_more():
    queue = Queue()
    async with claiming(queue) as running:
        await settle()
        running.stopping.set()
        queue.push("R1")
        await asyncio.wait_for(running.task, 5)
        assert queue.waiting == ["R1"]


async def test_a_burst_ends_when_it_is_over_and_not_while_anything_is_in_flight():
    queue = Queue("R1")
    async with claiming(queue, burst=[False, StoreUnavailable(), True]) as running:
        await wait_until(lambda: running.begun == ["R1"])
        await settle()
        assert len(running.answers or ()) == 3
        running.loop.begun[0].finish()
        await asyncio.wait_for(running.task, 5)
        assert running.answers == []


async def test_nothing_is_claimed_before_or_beside_a_suspect(caplog: pytest.LogCaptureFixture):
    queue = Queue("R1")
    queue.suspects = {"bad"}
    async with claiming(queue) as running:
        await wait_until(lambda: running.begun == ["R1"])
        queue.push("bad")
        queue.push("R2")
        await wait_until(lambda: "makes room" in caplog.text)
        await settle()
        assert (running.begun, queue.named_runs) == (["R1"], [])
        running.loop.begun[0].finish()
        await wait_until(lambda: running.begun == ["R1", "bad"])
        await settle()
        assert queue.named_runs == ["bad"]
        assert queue.waiting == ["R2"]
        running.loop.begun[1].finish()
        await wait_until(lambda: running.begun == ["R1", "bad", "R2"])


async def test_a_queue_that_is_paused_is_not_listened_to_until_it_is_resumed():
    queue = Queue("R1")
    queue.is_paused = True
    async with claiming(queue) as running:
        await wait_until(lambda: queue.not_watched)
        await settle()
        # Else its wake-ups would ring the bell without end.
        assert queue.not_watched[0] == ("list",)
        assert len(queue.asked) == 1
        queue.is_paused = False
        await wait_until(lambda: running.begun == ["R1"])
