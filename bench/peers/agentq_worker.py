"""agentq's own worker on runs of three iterations: tool, tool, answer; transcripts of 20 messages of 1 KB.

Run as a module it is a worker process: `python -m bench.peers.agentq_worker REDIS_URL NUMBER`. It warms up, works from
`go` to `end`, and reports.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import ExitStack, aclosing
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
from bench.children import Child, say, told
from bench.measure import server_cpu_s, throughput

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
        if self.workers > 1:
            return f"each as the one; they and Redis share {os.cpu_count()} CPUs"
        slots, lease_s = Settings().concurrency, Settings().lease_ms / 1000
        return f"defaults: {slots} iterations in flight, leases of {lease_s:.0f} s, log level info"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        url = bed.server.url
        asyncio.run(seed(Settings(redis_url=url), runs, workers=self.workers))
        return throughput(runs * ITERATIONS, **advance(url, runs, workers=self.workers))


async def seed(settings: Settings, runs: int, *, workers: int = 1) -> None:
    """Queue the runs, and before them some for each worker to warm up with, on a queue of its own."""
    parts = redis_parts(settings)
    async with aclosing(parts):
        warm_up = [_warm_up(number) for number in range(workers)] * WARM_UP_RUNS
        queues = warm_up + ["bench"] * runs
        for start in range(0, len(queues), _CREATED_AT_ONCE):
            batch = [_new_run(queue) for queue in queues[start : start + _CREATED_AT_ONCE]]
            await asyncio.gather(*[parts.store.create(new, wake=parts.executor.wakeup) for new in batch])


def advance(url: str, runs: int, *, workers: int = 1) -> dict[str, float]:
    """What it takes until all runs of `seed` have completed, from when the warm workers begin, all at once."""
    completed, patient_until = Keys(Settings().prefix).listing("status", "completed"), time.monotonic() + _PATIENCE_S
    with ExitStack() as stack, redis.Redis.from_url(url) as client:
        children = [stack.enter_context(Child(__name__, url, number)) for number in range(workers)]
        for child in children:
            child.hear()
        redis_cpu_s, began = server_cpu_s(client), time.perf_counter()
        for child in children:
            child.tell("go")
        while client.zcard(completed) < workers * WARM_UP_RUNS + runs:
            if time.monotonic() > patient_until:
                raise RuntimeError(f"{runs} runs have not ended in {_PATIENCE_S} s")
            time.sleep(_LOOK_S)
        seconds, redis_cpu_s = time.perf_counter() - began, server_cpu_s(client) - redis_cpu_s
        for child in children:
            child.tell("end")
        said = [child.hear() for child in children]
    committed = sum(each["committed"] for each in said)
    if committed != runs * ITERATIONS:
        raise RuntimeError(f"{runs} runs took {committed} iterations in place of {ITERATIONS} each")
    worker_cpu_s = sum(each["cpu_s"] for each in said)
    return {"seconds": seconds, "worker_cpu_s": worker_cpu_s, "redis_cpu_s": redis_cpu_s}


def _warm_up(number: int) -> str:
    return f"warm-up-{number}"


def _new_run(queue: str) -> NewRun:
    return NewRun(new_run_id(), "bench", (*_TALK, user_message(_PROMPT)), queue=queue)


def _talk() -> tuple[Message, ...]:
    """What was said before: user and model in turn."""
    text = ("Once more, and with more feeling this time. " * 30)[:MESSAGE_BYTES]
    roles = [Role.USER, Role.ASSISTANT] * MESSAGES
    return tuple(Message(role=role, parts=(TextPart(text=text),)) for role in roles[: MESSAGES - 1])


_TALK = _talk()
_PROMPT = ("And what are these words, please? " * 40)[:MESSAGE_BYTES]


async def _work(url: str, number: int) -> None:
    settings = Settings(redis_url=url)
    await Worker(app(settings), queues=[_warm_up(number)], burst=True).run()
    worker = Worker(app(settings), queues=["bench"])
    say("ready")
    await told("go")
    cpu_s = time.process_time()
    working = asyncio.create_task(worker.run())
    await told("end")
    cpu_s = time.process_time() - cpu_s
    worker.stop()
    report = await working
    say({"committed": report.committed, "cpu_s": cpu_s})


def main() -> None:
    """The worker process. It logs and collects garbage as `agentq worker` does; nobody reads its stderr."""
    _logs.configure(as_json=False, level="info")
    collect_seldom()
    asyncio.run(_work(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
