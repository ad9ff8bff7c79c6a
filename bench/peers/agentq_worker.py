"""agentq's own worker on runs of three iterations: tool, tool, answer; transcripts of 20 messages of 1 KB.

Run as a module it is the worker process: `python -m bench.peers.agentq_worker REDIS_URL RUNS`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from agentq import Agent, AgentQ, Settings, tool
from agentq._ids import new_run_id
from agentq._redis.keys import Keys
from agentq.cli import _logs
from agentq.messages import Message, Role, StopReason, TextPart, user_message
from agentq.providers.base import ReplyEnd, TextChunk, ToolCallChunk
from agentq.stores.base import NewRun
from agentq.wiring import redis_parts
from agentq.worker import Worker
from agentq.worker.garbage import collect_seldom
from bench.measure import in_child, server_cpu_s, throughput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest
    from bench.measure import Bed, Case, Sample

ITERATIONS = 3
MESSAGES = 20
MESSAGE_BYTES = 1000
# Imports at first use, caches, the first connection: paid once in the life of a worker, and not of interest here.
WARM_UP_RUNS = 10
_CREATED_AT_ONCE = 100
# Seldom enough to cost nothing, and the figure is the better the longer a round is.
_LOOK_S = 0.02
_PATIENCE_S = 300


@tool(effect="none")
async def look_up(key: str) -> str:
    """Look a word up."""
    return f"the meaning of {key}"


class InstantModel:
    """Two turns that call the tool, and an answer. The time that a model takes is none of the worker's."""

    name = "instant"

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        turn = (len(request.messages) - MESSAGES) // 2
        if turn < ITERATIONS - 1:
            yield ToolCallChunk(0, "look_up", f'{{"key": "word {turn}"}}')
            yield ReplyEnd(StopReason.TOOL_CALLS)
        else:
            yield TextChunk("It is what it is.")
            yield ReplyEnd(StopReason.END)


def app(settings: Settings) -> AgentQ:
    agent = Agent("bench", instructions="Look the words up.", model="instant", tools=[look_up])
    return AgentQ(agents=[agent], models={"instant": InstantModel()}, settings=settings)


@dataclass(frozen=True, slots=True)
class AgentqWorker:
    """So many worker processes on one queue."""

    workers: int = 1
    slow: bool = False

    @property
    def name(self) -> str:
        return "agentq worker" if self.workers == 1 else f"{self.workers} agentq workers"

    @property
    def settings(self) -> str:
        slots, lease_s = Settings().concurrency, Settings().lease_ms / 1000
        told = f"defaults: {slots} iterations in flight, leases of {lease_s:.0f} s, log level info"
        return told if self.workers == 1 else f"{told}; with Redis they share the {os.cpu_count()} CPUs"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        url = bed.server.url
        asyncio.run(seed(Settings(redis_url=url), runs))
        with ThreadPoolExecutor(self.workers) as threads:
            children = [threads.submit(in_child, "bench.peers.agentq_worker", url, runs) for _ in range(self.workers)]
        figures = [child.result() for child in children]
        committed = sum(each["committed"] for each in figures)
        if committed != runs * ITERATIONS:
            raise RuntimeError(f"{runs} runs took {committed} iterations in place of {ITERATIONS} each")
        return throughput(
            runs * ITERATIONS,
            seconds=max(each["seconds"] for each in figures),
            worker_cpu_s=sum(each["worker_cpu_s"] for each in figures),
            redis_cpu_s=max(each["redis_cpu_s"] for each in figures),
        )


async def seed(settings: Settings, runs: int) -> None:
    """Queue the runs, and before them some to warm up with, on a queue of their own."""
    parts = redis_parts(settings)
    async with aclosing(parts):
        queues = ["warm-up"] * WARM_UP_RUNS + ["bench"] * runs
        for start in range(0, len(queues), _CREATED_AT_ONCE):
            batch = [_new_run(queue) for queue in queues[start : start + _CREATED_AT_ONCE]]
            await asyncio.gather(*[parts.store.create(new, wake=parts.executor.wakeup) for new in batch])


def _new_run(queue: str) -> NewRun:
    return NewRun(new_run_id(), "bench", (*_TALK, user_message(_PROMPT)), queue=queue)


def _talk() -> tuple[Message, ...]:
    """What was said before: user and model in turn."""
    text = ("Once more, and with more feeling this time. " * 30)[:MESSAGE_BYTES]
    roles = [Role.USER, Role.ASSISTANT] * MESSAGES
    return tuple(Message(role=role, parts=(TextPart(text=text),)) for role in roles[: MESSAGES - 1])


_TALK = _talk()
_PROMPT = ("And what are these words, please? " * 40)[:MESSAGE_BYTES]


async def _work(url: str, runs: int) -> dict[str, float]:
    """Warm up, then advance the runs until all have ended."""
    settings = Settings(redis_url=url)
    await Worker(app(settings), queues=["warm-up"], burst=True).run()
    worker = Worker(app(settings), queues=["bench"])
    with redis.Redis.from_url(url) as client:
        redis_cpu_s, worker_cpu_s, began = server_cpu_s(client), time.process_time(), time.perf_counter()
        working = asyncio.create_task(worker.run())
        completed = Keys(settings.prefix).listing("status", "completed")
        async with asyncio.timeout(_PATIENCE_S):
            while client.zcard(completed) < WARM_UP_RUNS + runs:  # noqa: ASYNC110 - what changes is in Redis
                await asyncio.sleep(_LOOK_S)
        seconds = time.perf_counter() - began
        figures = {
            "seconds": seconds,
            "worker_cpu_s": time.process_time() - worker_cpu_s,
            "redis_cpu_s": server_cpu_s(client) - redis_cpu_s,
        }
        worker.stop()
        report = await working
    return figures | {"committed": report.committed}


def main() -> None:
    """The worker process. It logs and collects garbage as `agentq worker` does; nobody reads its stderr."""
    _logs.configure(as_json=False, level="info")
    collect_seldom()
    print(json.dumps(asyncio.run(_work(sys.argv[1], int(sys.argv[2])))))


if __name__ == "__main__":
    main()
