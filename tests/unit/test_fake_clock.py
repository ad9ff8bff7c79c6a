"""`FakeClock` stands still until it is moved, then wakes exactly whose sleep is over."""

from __future__ import annotations

import asyncio

from agentq.testing import FakeClock


async def test_time_passes_only_when_told():
    clock = FakeClock(now_ms=1_000)
    assert (clock.now_ms(), clock.monotonic()) == (1_000, 0)
    for _ in range(10):
        clock.advance(0.1)
    assert (clock.now_ms(), clock.monotonic()) == (2_000, 1.0)


async def test_sleepers_wake_when_their_time_has_come():
    clock = FakeClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (2, 1, 3, 0)]
    await asyncio.sleep(0)
    assert clock.sleepers == 3
    clock.advance(2)
    await asyncio.gather(tasks[0], tasks[1], tasks[3])
    assert sorted(woken) == [0, 1, 2]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleepers == 0
    clock.advance(2)
    assert sorted(woken) == [0, 1, 2]
