"""agentq's worker on streams of a real model API over HTTP, and the vendors' SDKs on the same.

Run as a module it is the worker process: `python -m bench.peers.agentq_streams REDIS_URL API SERVER_URL RUNS`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from agentq import Agent, AgentQ, Settings
from agentq._redis.keys import Keys
from agentq.cli import _logs
from agentq.worker import Worker
from agentq.worker.garbage import collect_seldom
from bench.children import Child
from bench.measure import Figure, in_child
from bench.peers.agentq_live import seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measure import Bed, Case, Sample

US = Figure("CPU us per chunk", 1)
IDEAL = Figure("x ideal", 2)
PER_S = 10
CHUNKS = 100
_MANY = 50
_AGENT = "reader"
_LOOK_S = 0.01
_PATIENCE_S = 120
# Where each API stands on the server; the SDKs add the rest themselves.
_BASES = {"openai": "/v1", "openai-chat": "/v1", "anthropic": "", "google": "/v1beta"}


class AgentqStreams:
    name = "agentq worker"
    slow = False
    settings = "a slot for each stream, the other settings by default; every chunk ends as an event in Redis"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        with model_server(runs) as url:
            asyncio.run(seed(bed.server.url, [(_AGENT, "Hello")] * runs))
            took = in_child("bench.peers.agentq_streams", bed.server.url, api_of(case), url, runs)
        return sample(took, runs)


class VendorSdk:
    name = "the vendor's SDK"
    slow = False
    settings = "openai, anthropic and google-genai with their defaults: the chunks are decoded, and that is all"

    def prepare(self) -> None:
        """They are among the packages of the tests."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        with model_server(runs) as url:
            took = in_child("bench.programs.sdk_streams", api_of(case), url, runs)
        return sample(took, runs)


def api_of(case: Case) -> str:
    """The provider of a case: its first word."""
    return case.name.split(",")[0]


def sample(took: dict[str, float], runs: int) -> Sample:
    return {
        US.name: took["worker_cpu_s"] / (runs * chunks_of(runs)) * 1e6,
        IDEAL.name: took["seconds"] / (chunks_of(runs) / PER_S),
    }


def chunks_of(runs: int) -> int:
    """The length of a stream. With few streams nothing is measured well, so they need not be long."""
    return CHUNKS if runs >= _MANY else CHUNKS // 20


@contextmanager
def model_server(runs: int) -> Iterator[str]:
    """The address of a model server in a process of its own."""
    with Child("bench.programs.model_server", chunks_of(runs), PER_S) as child:
        address: str = child.hear()
        yield address


async def _work(redis_url: str, api: str, url: str, runs: int) -> dict[str, float]:
    settings = Settings(redis_url=redis_url, concurrency=runs)
    model = Agent(_AGENT, model=f"{api}:bench", model_settings={"base_url": f"{url}{_BASES[api]}", "api_key": "k"})
    app = AgentQ([model], settings=settings)
    await app.run(_AGENT, "Hello", model=f"{api}:warm-up")  # imports at first use, caches
    completed = Keys(settings.prefix).listing("status", "completed")
    worker = Worker(app, queues=["bench"])
    with redis.Redis.from_url(redis_url) as client:
        cpu_s, began = time.process_time(), time.perf_counter()
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(_PATIENCE_S):
            while client.zcard(completed) < runs:  # noqa: ASYNC110 - what changes is in Redis
                await asyncio.sleep(_LOOK_S)
        figures = {"seconds": time.perf_counter() - began, "worker_cpu_s": time.process_time() - cpu_s}
        worker.stop()
        report = await working
    if report.committed != runs:
        raise RuntimeError(f"{runs} runs of one iteration took {report.committed}")
    return figures


def main() -> None:
    """The worker process. It logs and collects garbage as `agentq worker` does; nobody reads its stderr."""
    _logs.configure(as_json=False, level="info")
    collect_seldom()
    print(json.dumps(asyncio.run(_work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))))


if __name__ == "__main__":
    main()
