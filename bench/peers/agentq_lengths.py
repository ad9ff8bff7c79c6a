"""agentq's worker on transcripts of any length: what a further iteration costs once the run is known to the worker.

The same runs are done twice, with few iterations and with many; the difference is the further iterations alone.
Run as a module it is the worker process: `python -m bench.peers.agentq_lengths REDIS_URL RUNS MESSAGES ITERATIONS`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import aclosing
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
from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Figure, in_child, server_cpu_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentq.providers.base import Chunk, ModelRequest
    from bench.measure import Bed, Case, Sample

WRITTEN = Figure("bytes written / new bytes", 2)
READ = Figure("KB read per step", 1)
COLD = Figure("ms to read a run, cold", 2)
MESSAGE_BYTES = 1000
RESULT_BYTES = 4000
# Reading a long transcript once costs as much as hundreds of iterations, so its noise needs many to vanish in.
_FEW, _MANY = 2, 402
_AT_ONCE = 50
_LOOK_S = 0.01
_PATIENCE_S = 300


@tool(effect="none")
async def look_up(key: str) -> str:
    """Look a word up."""
    return (f"the meaning of {key} " * RESULT_BYTES)[:RESULT_BYTES]


class LongModel:
    """Calls the tool until the last of the iterations. It looks at nothing but the length of the transcript."""

    name = "long"

    def __init__(self, earlier: int, iterations: int) -> None:
        self._earlier = earlier
        self._iterations = iterations

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        turn = (len(request.messages) - self._earlier) // 2
        if turn < self._iterations - 1:
            yield ToolCallChunk(0, "look_up", f'{{"key": "word {turn}"}}')
            yield ReplyEnd(StopReason.TOOL_CALLS)
        else:
            yield TextChunk("It is what it is.")
            yield ReplyEnd(StopReason.END)


class AgentqLengths:
    name = "agentq worker"
    slow = False
    settings = (
        f"defaults; each iteration appends a call and a result of {RESULT_BYTES // 1000} KB; the figures per step are "
        f"of iterations after the first: the difference between runs of {_MANY} and of {_FEW} iterations"
    )

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        few, many = (_measured(bed, runs, case.size, iterations) for iterations in (_FEW, _MANY))
        steps = runs * (_MANY - _FEW)
        more = {name: many[name] - few[name] for name in many}
        return {
            THROUGHPUT.name: steps / max(more["seconds"], 1e-9),
            WORKER_CPU.name: 1000 * more["worker_cpu_s"] / steps,
            REDIS_CPU.name: 1000 * more["redis_cpu_s"] / steps,
            WRITTEN.name: more["written"] / (more["new"] or 1),
            READ.name: more["read"] / steps / 1024,
            COLD.name: max(1000 * (few["worker_cpu_s"] - _FEW * more["worker_cpu_s"] / (_MANY - _FEW)) / runs, 0),
        }


def _measured(bed: Bed, runs: int, earlier: int, iterations: int) -> dict[str, float]:
    """What one worker needed for runs of so many iterations; the server is emptied before."""
    url = bed.server.url
    with redis.Redis.from_url(url, decode_responses=False) as client:
        client.flushall()
        run_ids = asyncio.run(_seed(Settings(redis_url=url), runs, earlier))
        figures = in_child("bench.peers.agentq_lengths", url, runs, earlier, iterations)
        keys = Keys(Settings().prefix)
        figures["new"] = sum(sum(map(len, client.lrange(keys.messages(run_id), earlier, -1))) for run_id in run_ids)
    return figures


async def _seed(settings: Settings, runs: int, earlier: int) -> list[str]:
    text = ("Once more, and with more feeling this time. " * 30)[:MESSAGE_BYTES]
    roles = [Role.USER, Role.ASSISTANT] * earlier
    talk = tuple(Message(role=role, parts=(TextPart(text=text),)) for role in roles[: earlier - 1])
    news = [NewRun(new_run_id(), "bench", (*talk, user_message(text)), queue="bench") for _ in range(runs)]
    parts = redis_parts(settings)
    async with aclosing(parts):
        for start in range(0, runs, _AT_ONCE):
            batch = news[start : start + _AT_ONCE]
            await asyncio.gather(*[parts.store.create(new, wake=parts.executor.wakeup) for new in batch])
    return [new.run_id for new in news]


async def _work(url: str, runs: int, earlier: int, iterations: int) -> dict[str, float]:
    settings = Settings(redis_url=url)
    model = LongModel(earlier, iterations)
    agent = Agent("bench", model="long", tools=[look_up], max_iterations=iterations + 1)
    worker = Worker(AgentQ([agent], models={"long": model}, settings=settings), queues=["bench"])
    completed = Keys(settings.prefix).listing("status", "completed")
    with redis.Redis.from_url(url) as client:
        net, redis_cpu_s = client.info("stats"), server_cpu_s(client)
        cpu_s, began = time.process_time(), time.perf_counter()
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(_PATIENCE_S):
            while client.zcard(completed) < runs:  # noqa: ASYNC110 - what changes is in Redis
                await asyncio.sleep(_LOOK_S)
        now = client.info("stats")
        figures = {
            "seconds": time.perf_counter() - began,
            "worker_cpu_s": time.process_time() - cpu_s,
            "redis_cpu_s": server_cpu_s(client) - redis_cpu_s,
            "written": now["total_net_input_bytes"] - net["total_net_input_bytes"],
            "read": now["total_net_output_bytes"] - net["total_net_output_bytes"],
        }
        worker.stop()
        report = await working
    if report.committed != runs * iterations:
        raise RuntimeError(f"{runs} runs took other than {iterations} iterations each: {report}")
    return figures


def main() -> None:
    """The worker process."""
    _logs.configure(as_json=False, level="info")
    collect_seldom()
    url, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(_work(url, *map(int, numbers)))))


if __name__ == "__main__":
    main()
