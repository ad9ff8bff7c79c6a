"""From enqueue in one process to the call of the model in agentq's worker.

Run as a module it is one of two processes that enqueue: `python -m bench.peers.agentq_wake_up REDIS_URL client RUNS`
measures, one run after the other; `... load RATE` keeps the worker busy until it is told to `end`.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from agentq import Settings
from agentq.client import AsyncClient
from bench.children import Child, say
from bench.latency import P50, latency
from bench.measure import Figure
from bench.peers.agentq_live import QUEUE, WAKES, live_worker, report
from bench.programs.waking import PATIENCE_S, PAUSE_S, WARM_UP_JOBS, keep_busy, send

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

RETURNED = Figure("p50 ms after enqueue returned", 2)
LOAD = Figure("other runs/s", 0)
# A third of what the worker can do: more, and four processes on two cores would measure how these are shared out.
RATE = 1000


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
            called = report(worker, runs + WARM_UP_JOBS + others)["called_ns"]
        return wake_ups(sent, called) | ({LOAD.name: others / seconds} if case.size else {})


def wake_ups(sent: dict[str, int], called: dict[str, int]) -> dict[str, float]:
    """The figures of what was sent at these times, and when that returned; and when each of it was called."""
    after_return = latency(called[at] - returned for at, returned in sent.items())
    return {**latency(called[at] - int(at) for at in sent), RETURNED.name: after_return[P50.name]}


async def _send(client: AsyncClient, runs: int) -> dict[int, int]:
    """One run after the other, whose prompts are the times before their enqueues, and then wait for them."""
    handles = []

    async def enqueue(before: int) -> None:
        handles.append(await client.enqueue(WAKES, str(before), queue=QUEUE))

    sent = await send(enqueue, runs)
    for run in handles:
        await run.result(timeout=PATIENCE_S)
    return sent


async def _keep_busy(client: AsyncClient, rate: int) -> tuple[int, float]:
    """Enqueue so many runs a second until told to end, and wait for the last: how many there were, in what time."""
    sent = await keep_busy(lambda _: client.enqueue(WAKES, "one of many", queue=QUEUE), rate)
    while await _any(client, "queued") or await _any(client, "running"):  # noqa: ASYNC110 - what changes is in Redis
        await asyncio.sleep(PAUSE_S)
    return sent


async def _any(client: AsyncClient, status: str) -> bool:
    return bool(await client.list(status=status, limit=1))


async def _main(url: str, what: str, number: int) -> None:
    async with AsyncClient(url) as client:
        say(await (_send(client, number) if what == "client" else _keep_busy(client, number)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
