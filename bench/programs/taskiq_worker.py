"""taskiq on its list broker: `python -m bench.programs.taskiq_worker URL chain|sleep|wake|send|load JOBS SLOTS`."""

from __future__ import annotations

import asyncio
import logging
import sys

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from bench.children import say
from bench.programs.measuring import JOBS, measured
from bench.programs.waking import called_ns, keep_busy, note, send, until_end

logging.basicConfig(level=logging.WARNING)
url, mode, amount, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
broker = ListQueueBroker(url)
ended = 0
all_ended = asyncio.Event()


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
    note(sent_ns)


async def wake() -> None:
    await broker.startup()
    receiving = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency))
    await until_end(amount)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await broker.shutdown()
    say(called_ns)


async def client() -> None:
    await broker.startup()
    say(await send(woken.kiq, amount) if mode == "send" else await keep_busy(woken.kiq, amount))
    await broker.shutdown()


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
    asyncio.run({"wake": wake, "send": client, "load": client}.get(mode, main)())
