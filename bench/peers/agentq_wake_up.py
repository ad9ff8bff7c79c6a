"""From enqueue in one process to the call of the model in agentq's worker.

Run as a module it is one of two processes that enqueue: `python -m bench.peers.agentq_wake_up REDIS_URL client RUNS`
measures, one run after the other; `... load RATE` keeps the worker busy until it is told to `end`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from agentq import Settings
from agentq.client import AsyncClient
from bench.children import Child, say, told
from bench.latency import latency
from bench.measure import Figure
from bench.peers.agentq_live import QUEUE, WAKES, live_worker, report

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

RETURNED = Figure("p50 ms after enqueue returned", 2)
LOAD = Figure("other runs/s", 0)
# A third of what the worker can do: more, and four processes on two cores would measure how these are shared out.
RATE = 1000
# The first runs of a client load scripts and open connections.
_WARM_UP_RUNS = 10
_PAUSE_S = 0.01
_LOAD_FIRST_S = 0.5


class AgentqWakeUp:
    name = "agentq worker"
    slow = False

    @property
    def settings(self) -> str:
        return f"defaults: {Settings().concurrency} iterations in flight; AsyncClient in another process"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        url = bed.server.url
        with ExitStack() as stack:
            worker = stack.enter_context(live_worker(bed))
            worker.tell("go")
            others, seconds = 0, 0.0
            load = stack.enter_context(Child(__name__, url, "load", case.size)) if case.size else None
            if load is not None:
                load.hear()
            sent: dict[str, int] = stack.enter_context(Child(__name__, url, "client", runs)).hear()
            if load is not None:
                load.tell("end")
                others, seconds = load.hear()
            called = report(worker, runs + _WARM_UP_RUNS + others)["called_ns"]
        sample = {
            **latency(called[at] - int(at) for at in sent),
            RETURNED.name: latency(called[at] - returned for at, returned in sent.items())["p50 ms"],
        }
        return sample | ({LOAD.name: others / seconds} if case.size else {})


async def _send(client: AsyncClient, runs: int) -> dict[str, int]:
    """One run after the other: the time before each enqueue, which is its prompt, and the time when it returned."""
    sent = {}
    for number in range(_WARM_UP_RUNS + runs):
        before = time.monotonic_ns()
        run = await client.enqueue(WAKES, str(before), queue=QUEUE)
        if number >= _WARM_UP_RUNS:
            sent[str(before)] = time.monotonic_ns()
        # Nothing of ours is under way while the worker wakes up; then the run is over, or is waited for.
        await asyncio.sleep(_PAUSE_S)
        await run.result(timeout=60)
    return sent


async def _keep_busy(client: AsyncClient, rate: int) -> tuple[int, float]:
    """Enqueue so many runs a second until told to end: how many there were, in how many seconds."""
    ending = asyncio.create_task(told("end"))
    began, count = time.monotonic(), 0
    pending: set[asyncio.Task[object]] = set()
    while not ending.done():
        task: asyncio.Task[object] = asyncio.create_task(client.enqueue(WAKES, "one of many", queue=QUEUE))
        pending.add(task)
        task.add_done_callback(pending.discard)
        count += 1
        if count == int(rate * _LOAD_FIRST_S):
            say("under way")
        await asyncio.sleep(max(began + count / rate - time.monotonic(), 0))
    seconds = time.monotonic() - began
    while pending:
        await asyncio.wait(pending)
    while await _any(client, "queued") or await _any(client, "running"):  # noqa: ASYNC110 - what changes is in Redis
        await asyncio.sleep(_PAUSE_S)
    return count, seconds


async def _any(client: AsyncClient, status: str) -> bool:
    return bool(await client.list(status=status, limit=1))


async def _main(url: str, what: str, number: int) -> None:
    async with AsyncClient(url) as client:
        say(await (_send(client, number) if what == "client" else _keep_busy(client, number)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
