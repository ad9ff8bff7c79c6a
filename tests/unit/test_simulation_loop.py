"""The event loop of the simulation: virtual time, turns by seed, and processes that die or stand still."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentq.testing.simulation.scheduling import Process, SimulatedLoop, SimulationStuck

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


def made(seed: int = 1, *, max_steps: int = 10_000) -> SimulatedLoop:
    return SimulatedLoop(random.Random(seed).random, max_steps=max_steps)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    loop = made()
    yield loop
    loop.bury()
    loop.run_until_complete(closed())
    loop.close()


async def closed() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def run(loop: SimulatedLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(loop.director.main.start(work))


async def counting(lines: list[str], name: str, times: int = 5, pause_s: float = 0.0) -> None:
    for number in range(times):
        lines.append(f"{name}{number}")
        await asyncio.sleep(pause_s)


def test_a_day_passes_at_once(loop: SimulatedLoop):
    began = time.monotonic()
    run(loop, asyncio.sleep(86_400))
    assert loop.time() == pytest.approx(86_400, abs=0.01)
    assert time.monotonic() - began < 60
    assert loop.steps < 10


def test_a_timeout_ends_what_takes_longer(loop: SimulatedLoop):
    async def wait() -> None:
        async with asyncio.timeout(3):
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        run(loop, wait())
    assert loop.time() == pytest.approx(3, abs=0.01)


def taken_turns(seed: int) -> list[str]:
    loop, lines = made(seed), list[str]()

    async def both() -> None:
        one, two = Process(loop, "one"), Process(loop, "two")
        await asyncio.gather(one.main.start(counting(lines, "a")), two.main.start(counting(lines, "b")))

    run(loop, both())
    loop.close()
    return lines


def test_the_seed_says_which_process_goes_on():
    assert taken_turns(1) == taken_turns(1)
    assert len({tuple(taken_turns(seed)) for seed in range(20)}) > 10


def test_a_process_keeps_the_order_that_asyncio_promises(loop: SimulatedLoop):
    lines: list[str] = []
    process = Process(loop, "one")

    async def both() -> None:
        await asyncio.gather(
            process.main.start(counting(lines, "a", 2)),
            process.main.start(counting(lines, "b", 2)),
            Process(loop, "two").main.start(asyncio.sleep(0)),
        )

    run(loop, both())
    assert lines == ["a0", "b0", "a1", "b1"]


def test_nothing_runs_in_a_process_that_was_killed(loop: SimulatedLoop):
    lines: list[str] = []
    deaths: list[str] = []
    process = Process(loop, "one")
    process.on_death = lambda: deaths.append("one")
    process.add_thread().start(counting(lines, "thread", 100, 1.0))
    process.main.start(counting(lines, "main", 100, 1.0))

    async def kill() -> None:
        await asyncio.sleep(2.5)
        process.kill()
        process.kill()
        await asyncio.sleep(100)

    run(loop, kill())
    assert sorted(lines) == ["main0", "main1", "main2", "thread0", "thread1", "thread2"]
    assert deaths == ["one"]


def test_a_process_that_stands_still_goes_on_where_it_was(loop: SimulatedLoop):
    lines: list[str] = []
    process = Process(loop, "one")
    task = process.main.start(counting(lines, "a", 3, 1.0))

    async def stop() -> None:
        await asyncio.sleep(1.5)
        process.stop_for(20)
        await asyncio.sleep(19)
        assert lines == ["a0", "a1"]
        await task

    run(loop, stop())
    assert lines == ["a0", "a1", "a2"]
    assert loop.time() == pytest.approx(22.5, abs=0.01)


def test_one_thread_may_stand_still_alone(loop: SimulatedLoop):
    lines: list[str] = []
    process = Process(loop, "one")
    process.main.start(counting(lines, "main", 3, 1.0))
    process.add_thread().start(counting(lines, "thread", 3, 1.0))

    async def stop() -> None:
        await asyncio.sleep(0.5)
        process.stop_for(60, thread=process.main)
        await asyncio.sleep(30)

    run(loop, stop())
    assert sorted(lines) == ["main0", "thread0", "thread1", "thread2"]


def test_after_the_end_everybody_runs_whatever_timers_are_left(loop: SimulatedLoop):
    lines: list[str] = []
    process = Process(loop, "one")
    task = process.main.start(counting(lines, "a", 3, 1.0))

    async def stop() -> None:
        await asyncio.sleep(0.5)
        process.stop_for(2)

    run(loop, stop())
    loop.bury()
    process.stop_for(1000)
    run(loop, asyncio.wait({task}))
    assert lines == ["a0", "a1", "a2"]


def test_what_can_never_end_is_said():
    loop = made()
    with pytest.raises(SimulationStuck, match="nothing is left"):
        run(loop, forever())
    loop.bury()
    loop.close()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_what_never_ends_is_said():
    loop = made(max_steps=1000)
    with pytest.raises(SimulationStuck, match="after 1001 steps"):
        run(loop, counting([], "a", 10_000))
    loop.bury()
    loop.close()


def test_an_error_that_nobody_awaits_is_told(loop: SimulatedLoop):
    told: list[str] = []
    loop.complain = told.append

    def broken() -> None:
        raise ValueError("no")

    loop.call_soon(broken)
    run(loop, asyncio.sleep(1))
    (words,) = told
    assert words.endswith("broken raised: ValueError: no")
