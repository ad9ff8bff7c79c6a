"""saq on Redis: `python -m bench.programs.saq_worker URL chain|sleep|wake|send|load JOBS SLOTS`."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from saq import Queue, Worker

from bench.children import say
from bench.programs.measuring import JOBS, measured
from bench.programs.waking import called_ns, keep_busy, note, send, until_end

logging.basicConfig(level=logging.WARNING)
url, mode, amount, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
queue = Queue.from_url(url)
ended = 0
all_ended = asyncio.Event()
# No result is kept.
NONE = -1


def end() -> None:
    global ended  # noqa: PLW0603 - a job has no other place in this process
    ended += 1
    if ended == amount:
        all_ended.set()


async def step(_: Any, *, left: int) -> None:
    """Nothing but the next one."""
    if left:
        await queue.enqueue("step", left=left - 1, ttl=NONE)
    else:
        end()


async def wait(_: Any) -> None:
    await asyncio.sleep(1)
    end()


async def woken(_: Any, *, sent_ns: int) -> None:
    note(sent_ns)


async def enqueue(sent_ns: int) -> None:
    await queue.enqueue("woken", sent_ns=sent_ns, ttl=NONE)


async def wake() -> None:
    await queue.connect()
    worker = Worker(queue, functions=[woken], concurrency=concurrency)
    working = asyncio.create_task(worker.start())
    await until_end(amount)
    await worker.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    say(called_ns)


async def client() -> None:
    await queue.connect()
    say(await send(enqueue, amount) if mode == "send" else await keep_busy(enqueue, amount))
    await queue.disconnect()


async def main() -> None:
    await queue.connect()
    for _ in range(amount):
        await (queue.enqueue("step", left=JOBS - 1, ttl=NONE) if mode == "chain" else queue.enqueue("wait", ttl=NONE))
    worker = Worker(queue, functions=[step, wait], concurrency=concurrency)
    with measured(url):
        working = asyncio.create_task(worker.start())
        await all_ended.wait()
    await worker.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run({"wake": wake, "send": client, "load": client}.get(mode, main)())
