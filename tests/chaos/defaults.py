"""How long it takes at default settings until the runs of a worker that was killed, or asked to end, go on."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq import AsyncClient, Settings
from tests._redis_server import RedisServer
from tests.chaos.forge import Forge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RUNS = 20
_PROMPT = 'call send {"name": "a", "seconds": 4}\nsay Done.'
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Waits:
    """For each kill and each SIGTERM, how long until the last of the worker's runs went on, in seconds."""

    killed: tuple[float, ...]
    terminated: tuple[float, ...]


async def measure(folder: Path, *, kills: int, terms: int, victims: int = 5) -> Waits:
    """Stop workers at default settings, `victims` at once, each with 20 runs in a tool; another worker goes on.

    Raises AssertionError when a run does not go on, or not to its end.
    """
    (folder / "redis").mkdir(parents=True)
    server = RedisServer(folder / "redis", durable=True)
    server.start()
    forge = Forge(folder / "workers.log", {"REDIS_URL": server.url, "CHAOS_LEDGER": str(folder / "ledger")})
    try:
        async with AsyncClient(settings=Settings(redis_url=server.url)) as client:
            killed: list[float] = []
            while len(killed) < kills:
                killed += await _round(client, forge, min(victims, kills - len(killed)), signal.SIGKILL)
            terminated: list[float] = []
            while len(terminated) < terms:
                terminated += await _round(client, forge, min(victims, terms - len(terminated)), signal.SIGTERM)
            return Waits(tuple(killed), tuple(terminated))
    finally:
        forge.close()
        server.kill()


async def _round(client: AsyncClient, forge: Forge, victims: int, number: signal.Signals) -> list[float]:
    """Each victim has a queue of its own, so that its runs are its own; a rescuer who serves all comes then."""
    queues = [f"q{index}" for index in range(victims)]
    pids = [forge.start("-q", queue) for queue in queues]
    runs = {queue: [(await client.enqueue("shop", _PROMPT, queue=queue)).id for _ in range(RUNS)] for queue in queues}
    for run_ids in runs.values():
        await _until_in_tool(client, run_ids)
    rescuer = forge.start(*(word for queue in queues for word in ("-q", queue)))
    await asyncio.sleep(random.uniform(0.3, 1.0))  # over the beat of the renewals
    at_ms = time.time() * 1000
    for pid in pids:
        forge.alive.remove(pid)
        forge.signal(pid, number)
    waits = []
    for run_ids in runs.values():
        ends = await asyncio.gather(*(client.result(run_id, timeout=_PATIENCE_S) for run_id in run_ids))
        assert {end.output for end in ends} == {"Done."}
        waits.append(max([await _went_on_ms(client, run_id, at_ms) for run_id in run_ids]) / 1000)
    forge.terminate(rescuer)
    return waits


async def _until_in_tool(client: AsyncClient, run_ids: Sequence[str]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        states = await asyncio.gather(*(client.read(run_id) for run_id in run_ids))
        if all(state.phase == "using_tools" for state in states):
            return
        assert time.monotonic() < until, "the runs do not begin"
        await asyncio.sleep(0.02)


async def _went_on_ms(client: AsyncClient, run_id: str, at_ms: float) -> float:
    """How long after `at_ms` an iteration began."""
    async for event in client.events(run_id, live=False, kinds=["iteration.started"]):
        if event.at_ms > at_ms:
            return event.at_ms - at_ms
    raise AssertionError(f"run {run_id} ended, but nobody went on with it")
