"""agentq's worker on models that wait, tell when they were called, or stream at a pace.

Run as a module it is the worker process: `python -m bench.peers.agentq_live REDIS_URL CONCURRENCY`. It warms up, says
how much memory it uses, works from `go` to `end`, and reports.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from agentq import Agent, AgentQ, Settings
from agentq._ids import new_run_id
from agentq.cli import _logs
from agentq.messages import StopReason, user_message
from agentq.providers.base import ModelRequest, ReplyEnd, TextChunk
from agentq.stores.base import NewRun
from agentq.wiring import redis_parts
from agentq.worker import Worker
from agentq.worker.garbage import collect_seldom
from bench.children import Child, memory_kb, say, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bench.measure import Bed

QUEUE = "bench"
WAITS = "waits"
WAKES = "wakes"
STREAMS = "streams"
PIECE = "token "
_WARM_UP_QUEUE = "warm-up"
# Imports at first use, caches, the first connection: paid once in the life of a worker.
WARM_UP = [(WAITS, "0"), (WAKES, ""), (STREAMS, "10 0")] * 5
_CREATED_AT_ONCE = 100
# A connection hands over a few pieces at a time, and other tasks get their turn in between.
_TOKENS_AT_ONCE = 20


class Waits:
    """Answers after as many seconds as the prompt says, and knows how many calls were open at once."""

    name = WAITS

    def __init__(self) -> None:
        self.open = self.open_at_most = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextChunk | ReplyEnd]:
        self.open += 1
        self.open_at_most = max(self.open, self.open_at_most)
        try:
            await asyncio.sleep(float(request.messages[-1].text))
        finally:
            self.open -= 1
        yield TextChunk("Done.")
        yield ReplyEnd(StopReason.END)


class Wakes:
    """Answers at once, and notes when it was called with a prompt that is a number."""

    name = WAKES

    def __init__(self) -> None:
        self.called_ns: dict[str, int] = {}

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextChunk | ReplyEnd]:
        now = time.monotonic_ns()
        if (prompt := request.messages[-1].text).isdigit():
            self.called_ns[prompt] = now
        yield TextChunk("Done.")
        yield ReplyEnd(StopReason.END)


class Streams:
    """Streams tokens: a prompt `250 50` asks for 250 at 50 a second. With 0 a second they come as fast as it goes.

    At a pace, each token is the time at which it is sent, and the pauses waver between half and one and a half times
    their mean.
    """

    name = STREAMS

    def __init__(self) -> None:
        self.began_ns = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextChunk | ReplyEnd]:
        self.began_ns = self.began_ns or time.monotonic_ns()
        tokens, per_s = map(int, request.messages[-1].text.split())
        for number in range(tokens):
            if per_s:
                await asyncio.sleep(random.uniform(0.5, 1.5) / per_s)
                yield TextChunk(f"{time.monotonic_ns()} ")
            else:
                if number % _TOKENS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                yield TextChunk(PIECE)
        yield ReplyEnd(StopReason.END)


async def seed(url: str, runs: Sequence[tuple[str, str]], *, queue: str = QUEUE) -> list[str]:
    """Queue runs of these agents and prompts, and return their ids."""
    parts = redis_parts(Settings(redis_url=url))
    news = [NewRun(new_run_id(), agent, (user_message(prompt),), queue=queue) for agent, prompt in runs]
    async with aclosing(parts):
        for start in range(0, len(news), _CREATED_AT_ONCE):
            batch = news[start : start + _CREATED_AT_ONCE]
            await asyncio.gather(*[parts.store.create(new, wake=parts.executor.wakeup) for new in batch])
    return [new.run_id for new in news]


@contextmanager
def live_worker(bed: Bed, *, concurrency: int = 0) -> Iterator[Child]:
    """A worker process that is warm and waits for `go`. `concurrency` 0: the default."""
    asyncio.run(seed(bed.server.url, WARM_UP, queue=_WARM_UP_QUEUE))
    with Child(__name__, bed.server.url, concurrency or Settings().concurrency) as child:
        child.hear()
        yield child


def report(child: Child, runs: int) -> dict[str, Any]:
    """End the worker, and return what it says. Raises `RuntimeError` if it did not do `runs` runs, each in one go."""
    child.tell("end")
    said: dict[str, Any] = child.hear()
    if said["committed"] != runs:
        raise RuntimeError(f"{runs} runs of one iteration took {said['committed']}")
    return said


async def _work(url: str, concurrency: int) -> None:
    waits, wakes, streams = Waits(), Wakes(), Streams()
    app = AgentQ(
        agents=[Agent(name, model=f"{name}:bench") for name in (WAITS, WAKES, STREAMS)],
        settings=Settings(redis_url=url, concurrency=concurrency),
        models={WAITS: waits, WAKES: wakes, STREAMS: streams},
    )
    await Worker(app, queues=[_WARM_UP_QUEUE], burst=True).run()
    waits.open_at_most = streams.began_ns = 0
    idle_kb = memory_kb()["now"]
    say("ready")
    await told("go")
    cpu_s, began_ns = time.process_time(), time.monotonic_ns()
    worker = Worker(app, queues=[QUEUE])
    working = asyncio.create_task(worker.run())
    await told("end")
    cpu_s = time.process_time() - cpu_s
    worker.stop()
    done = await working
    say(
        {
            "committed": done.committed,
            "cpu_s": cpu_s,
            "began_ns": began_ns,
            "idle_kb": idle_kb,
            "peak_kb": memory_kb()["peak"],
            "open_at_most": waits.open_at_most,
            "called_ns": wakes.called_ns,
            "streaming_began_ns": streams.began_ns,
        }
    )


def main() -> None:
    """The worker process. It logs and collects garbage as `agentq worker` does; nobody reads its stderr."""
    _logs.configure(as_json=False, level="info")
    collect_seldom()
    asyncio.run(_work(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
