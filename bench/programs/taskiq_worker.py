"""taskiq on its Redis list broker: `python -m bench.programs.taskiq_worker URL chain|sleep|wake|send JOBS SLOTS`."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from bench.programs.measuring import JOBS, PAUSE_S, Wakes, measured, sender

logging.basicConfig(level=logging.WARNING)
url, mode, amount, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
broker = ListQueueBroker(url)
ended = 0
all_ended = asyncio.Event()
wakes = Wakes(amount)


def end() -> None:
    global ended  # noqa: PLW0603 - a task has no other place in this process
    ended += 1
    if ended == amount:
        all_ended.set()


@broker.task(task_name="step")
async def step(left: int) -> None:
    """Nothing but the next one."""
    if left:
        await step.kiq(left - 1)
    else:
        end()


@broker.task(task_name="wait")
async def wait() -> None:
    await asyncio.sleep(1)
    end()


@broker.task(task_name="woken")
async def woken(sent_ns: int) -> None:
    wakes.note(sent_ns)
    if wakes.are_all:
        all_ended.set()


async def send() -> None:
    await broker.startup()
    for _ in range(amount):
        await woken.kiq(time.monotonic_ns())
        await asyncio.sleep(PAUSE_S)
    await broker.shutdown()


async def wake() -> None:
    await broker.startup()
    receiving = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency))
    with sender("bench.programs.taskiq_worker", url, amount):
        await all_ended.wait()
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await broker.shutdown()
    wakes.tell()


async def main() -> None:
    await broker.startup()
    for _ in range(amount):
        await (step.kiq(JOBS - 1) if mode == "chain" else wait.kiq())
    with measured(url):
        receiving = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency))
        await all_ended.wait()
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run({"send": send, "wake": wake}.get(mode, main)())
