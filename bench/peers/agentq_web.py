"""Browsers that watch runs over HTTP: one process serves the streams, another one is all of the browsers.

Run as a module it is one of the two: `python -m bench.peers.agentq_web serve REDIS_URL PORT`, or
`… view REDIS_URL PORT RUNS VIEWERS TOKENS PER_S`, which enqueues the runs and reports as `agentq_viewers` does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import TYPE_CHECKING

import redis
import uvicorn

from agentq import AsyncClient
from agentq.private_redis import free_port
from agentq.web import web_app
from bench.children import Child, memory_kb, say, told
from bench.latency import latency
from bench.peers.agentq_live import STREAMS, live_worker, report, seed
from bench.peers.agentq_tails import CONNECTIONS, CPU_US, EVENTS_PER_S, MB, PER_S
from bench.peers.agentq_viewers import Seen

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

_TOKENS_AT_MOST = 20


class AgentqWeb:
    name = "agentq.web under uvicorn"
    slow = False
    settings = "one process of uvicorn serves all viewers as server-sent events; the worker has a slot for each run"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        """`Case.size` is the number of runs, where it is not that of the viewers."""
        url, port, tokens = bed.server.url, free_port(), min(runs, _TOKENS_AT_MOST)
        many, each = (case.size, runs) if case.size else (runs, 1)
        with live_worker(bed, concurrency=many) as worker, redis.Redis.from_url(url) as client:
            before = client.info("clients")["connected_clients"]
            with Child(__name__, "serve", url, port) as server:
                server.hear()
                with Child(__name__, "view", url, port, many, each, tokens, PER_S) as browsers:
                    browsers.hear()
                    connections = client.info("clients")["connected_clients"] - before
                    server.tell("count")
                    worker.tell("go")
                    seen = browsers.hear()
                    server.tell("end")
                    served = server.hear()
            began_ns = report(worker, many)["streaming_began_ns"]
        return {
            EVENTS_PER_S.name: seen["events"] / ((seen["last_ns"] - began_ns) / 1e9),
            **latency(seen["latencies_ns"]),
            CPU_US.name: served["cpu_s"] / seen["events"] * 1e6,
            MB.name: served["peak_kb"] / 1024,
            CONNECTIONS.name: connections,
        }


async def _serve(url: str, port: int) -> None:
    async with AsyncClient(url) as client:
        server = uvicorn.Server(uvicorn.Config(web_app(client), port=port, log_level="warning"))
        listening = socket.create_server(("127.0.0.1", port), backlog=4096)
        serving = asyncio.create_task(server.serve([listening]))
        say("serves")  # who connects now waits in the backlog
        await told("count")
        cpu_s = time.process_time()
        await told("end")
        say({"cpu_s": time.process_time() - cpu_s, "peak_kb": memory_kb()["peak"]})
        server.should_exit = True
        await serving


async def _view(port: int, run_id: str, seen: Seen, tokens: int) -> None:
    """Watch a run to its end. Raises `RuntimeError` if an event is missing, doubled or out of order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    last, text = 0, ""
    async for line in reader:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if event["seq"] != last + 1:
            raise RuntimeError(f"after event {last} of run {run_id} came {event['seq']}")
        last = event["seq"]
        if event["type"] == "run.queued":
            seen.begins()
        elif event["type"] == "text.delta":
            seen.text(event["text"])
            text += event["text"]
        elif event["type"] == "run.completed" and (text != event["output"] or len(text.split()) != tokens):
            raise RuntimeError(f"of {tokens} tokens of run {run_id}, {len(text.split())} came: {text[:100]!r}")
    seen.events += last
    writer.close()


async def _watch(url: str, port: int, runs: int, viewers: int, tokens: int, per_s: int) -> None:
    run_ids = await seed(url, [(STREAMS, f"{tokens} {per_s}")] * runs)
    seen = Seen(runs * viewers)
    async with asyncio.TaskGroup() as group:
        for run_id in run_ids:
            for _ in range(viewers):
                group.create_task(_view(port, run_id, seen, tokens))
        await seen.all_begun.wait()
        say("all watch")
    say({"events": seen.events, "latencies_ns": seen.latencies_ns.tolist(), "last_ns": seen.last_ns})


if __name__ == "__main__":
    _, what, of, at, *numbers = sys.argv
    asyncio.run(_serve(of, int(at)) if what == "serve" else _watch(of, int(at), *map(int, numbers)))
