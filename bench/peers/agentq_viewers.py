"""Viewers of agentq's runs in a process of their own, and what they see of streaming runs.

Run as a module it is the viewing process: `python -m bench.peers.agentq_viewers REDIS_URL RUNS VIEWERS TOKENS PER_S`
enqueues the runs, gives each its viewers, says when all of them watch, and reports when all have seen the end.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from agentq.client import AsyncClient
from bench.children import Child, memory_kb, say
from bench.peers.agentq_live import PIECE, STREAMS, live_worker, report, seed

if TYPE_CHECKING:
    from bench.measure import Bed


@dataclass(frozen=True, slots=True)
class Watched:
    """What a worker process and a viewing process say of the same runs."""

    worker: dict[str, Any]
    viewers: dict[str, Any]
    connections: int  # what the viewing process had open while all of its viewers watched

    @property
    def seconds(self) -> float:
        """From the first call of the model until the last viewer had seen the last token."""
        return float(self.viewers["last_ns"] - self.worker["streaming_began_ns"]) / 1e9


def watch(bed: Bed, *, runs: int, viewers: int, tokens: int, per_s: int) -> Watched:
    """Stream so many runs to so many viewers each, who wait before the worker begins."""
    url = bed.server.url
    with live_worker(bed, concurrency=runs) as worker, redis.Redis.from_url(url) as client:
        before = client.info("clients")["connected_clients"]
        with Child(__name__, url, runs, viewers, tokens, per_s) as watching:
            watching.hear()
            connections = client.info("clients")["connected_clients"] - before
            worker.tell("go")
            seen = watching.hear()
        return Watched(report(worker, runs), seen, connections)


@dataclass(slots=True)
class Seen:
    """What the viewers of a process have seen so far."""

    expected: int
    begun: int = 0
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)
    events: int = 0
    tokens: int = 0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    last_ns: int = 0

    def begins(self) -> None:
        self.begun += 1
        if self.begun == self.expected:
            self.all_begun.set()

    def text(self, text: str) -> None:
        """Take a piece of text: tokens that say when they were sent, or ones that do not."""
        self.last_ns = time.monotonic_ns()
        if text.startswith(PIECE):
            self.tokens += text.count(PIECE)
            return
        sent = text.split()
        self.tokens += len(sent)
        self.latencies_ns.extend(self.last_ns - int(at) for at in sent)


async def view(client: AsyncClient, run_id: str, seen: Seen, tokens: int) -> None:
    """Watch a run to its end. Raises `RuntimeError` if an event is missing, doubled or out of order."""
    last, count, pieces, output = 0, 0, [], ""
    async with aclosing(client.events(run_id)) as events:
        async for event in events:
            if event.seq != last + 1:
                raise RuntimeError(f"after event {last} of run {run_id} came {event.seq}")
            last, count = event.seq, count + 1
            if event.type == "run.queued":
                seen.begins()
            elif event.type == "text.delta":
                seen.text(event.text)
                pieces.append(event.text)
            elif event.type == "run.completed":
                output = event.output
    seen.events += count
    text = "".join(pieces)
    if text != output or len(text.split()) != tokens:
        raise RuntimeError(f"of {tokens} tokens of run {run_id}, {len(text.split())} came: {text[:100]!r}")


async def _watch(url: str, runs: int, viewers: int, tokens: int, per_s: int) -> None:
    run_ids = await seed(url, [(STREAMS, f"{tokens} {per_s}")] * runs)
    seen = Seen(runs * viewers)
    async with AsyncClient(url) as client, asyncio.TaskGroup() as group:
        for run_id in run_ids:
            for _ in range(viewers):
                group.create_task(view(client, run_id, seen, tokens))
        await seen.all_begun.wait()
        cpu_s = time.process_time()
        say("all watch")
    say(
        {
            "events": seen.events,
            "tokens": seen.tokens,
            "cpu_s": time.process_time() - cpu_s,
            "latencies_ns": seen.latencies_ns.tolist(),
            "last_ns": seen.last_ns,
            "peak_kb": memory_kb()["peak"],
        }
    )


if __name__ == "__main__":
    asyncio.run(_watch(sys.argv[1], *map(int, sys.argv[2:])))
