"""Workers of this process and of others, and what tests look at."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from agentq import Agent, AgentQ, AsyncClient, Settings, tool
from agentq.worker import Worker, WorkerReport
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

# Long enough for a machine that is busy with other tests, short enough for a test.
LEASE_MS = 900


class Gate:
    """Tools that wait until the test opens the gate, and what ran so far."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.lets_through: set[str] = set()
        self.running = self.most_running = 0
        self.open = asyncio.Event()

    async def pass_through(self, name: str) -> str:
        self.entered.append(name)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if name not in self.lets_through:
                await self.open.wait()
        finally:
            self.running -= 1
        return f"{name} passed"


def app_at(url: str, gate: Gate | None = None, *, agent: str = "echo", tools: Any = (), **settings: Any) -> AgentQ:
    """An app with the agent `echo` on the mock model, and short times. `gate` adds the tools look, put and pay."""
    values = {"lease_ms": LEASE_MS, "sweep_ms": 100, "handover_ms": 50} | settings
    if gate is not None:

        @tool(effect="none")
        async def look(name: str = "look") -> str:
            """Only reads."""
            return await gate.pass_through(name)

        @tool(effect="idempotent")
        async def put(name: str = "put") -> str:
            """May be repeated."""
            return await gate.pass_through(name)

        @tool(effect="once")
        async def pay(name: str = "pay") -> str:
            """Must not be repeated."""
            return await gate.pass_through(name)

        tools = (*tools, look, put, pay)
    return AgentQ([Agent(agent, tools=tools, retry_backoff_s=0.3)], settings=Settings(redis_url=url, **values))


class Running:
    """A worker at work in this event loop."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task = asyncio.create_task(worker.run(), name=f"worker {worker.name}")

    async def stopped(self) -> WorkerReport:
        """Stop warmly and wait for the end."""
        self.worker.stop()
        return await asyncio.wait_for(self.task, 20)

    async def ended(self) -> WorkerReport:
        """Wait for the end without asking for it."""
        return await asyncio.wait_for(self.task, 20)


@asynccontextmanager
async def working(app: AgentQ, **options: Any) -> AsyncIterator[Running]:
    running = Running(Worker(app, **options))
    try:
        yield running
    finally:
        running.worker.stop_now()
        await asyncio.wait_for(running.task, 20)


@asynccontextmanager
async def client_at(url: str) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(url)
    try:
        yield client
    finally:
        await client.aclose()


def environment(url: str, folder: Path) -> dict[str, str]:
    ours = {
        "REDIS_URL": url,
        "AGENTQ_APP": "tests.worker.app:app",
        "AGENTQ_LEASE_MS": str(LEASE_MS),
        "WORKER_TEST_FOLDER": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    return os.environ | ours


_WORKER = """
import asyncio
from agentq.worker import Worker
from tests.worker.app import app
asyncio.run(Worker(app).run())
"""


@contextmanager
def worker_process(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, over tests/worker/app.py."""
    process = subprocess.Popen([sys.executable, "-c", _WORKER], env=environment(url, folder), cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
