"""Wake-ups in the processes of a peer: the worker's job notes when it is called, others send jobs or keep it busy.

They are told words and answer in lines of JSON, as `bench.children` has it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.children import say, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    # Enqueues a job with the time at which it is sent; 0 for one that only keeps the worker busy.
    Enqueue = Callable[[int], Awaitable[object]]

# The first jobs of a client load scripts and open connections.
WARM_UP_JOBS = 10
PAUSE_S = 0.01
_LOAD_FIRST_S = 0.5
# How long the last of them may take. A worker that has fallen behind must catch up, and that is its figure.
PATIENCE_S = 60
# By when they were sent. All processes of a machine share its monotonic clock.
called_ns: dict[int, int] = {}


def note(sent_ns: int) -> None:
    """What the job does."""
    now = time.monotonic_ns()
    if sent_ns:
        called_ns[sent_ns] = now


async def until_end(jobs: int) -> None:
    """In a worker that is ready: wait until the parent says `end`, and then for what is late."""
    say("ready")
    await told("end")
    patient_until = time.monotonic() + PATIENCE_S
    while len(called_ns) < WARM_UP_JOBS + jobs and time.monotonic() < patient_until:  # noqa: ASYNC110 - RQ notes in another thread
        await asyncio.sleep(PAUSE_S)


async def send(enqueue: Enqueue, jobs: int) -> dict[int, int]:
    """One job after the other: the time before each enqueue, and the time when it returned.

    It does not wait for the worker: a stall would then delay the very jobs that it should have hit.
    """
    sent = {}
    for number in range(WARM_UP_JOBS + jobs):
        before = time.monotonic_ns()
        await enqueue(before)
        if number >= WARM_UP_JOBS:
            sent[before] = time.monotonic_ns()
        await asyncio.sleep(PAUSE_S)
    return sent


async def keep_busy(enqueue: Enqueue, rate: int) -> tuple[int, float]:
    """Enqueue so many jobs a second until told to `end`: how many there were, in how many seconds."""
    ending = asyncio.ensure_future(told("end"))
    began, count = time.monotonic(), 0
    pending: set[asyncio.Future[object]] = set()
    while not ending.done():
        job = asyncio.ensure_future(enqueue(0))
        pending.add(job)
        job.add_done_callback(pending.discard)
        count += 1
        if count == int(rate * _LOAD_FIRST_S):
            say("under way")
        await asyncio.sleep(max(began + count / rate - time.monotonic(), 0))
    seconds = time.monotonic() - began
    while pending:
        await asyncio.wait(pending)
    return count, seconds
