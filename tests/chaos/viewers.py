"""Viewers of runs in a process of their own: they come late, lose their connection, come back with their cursor.

Reads run ids from stdin, a line each; when stdin has ended and so have the runs, prints one JSON line for each run with
the numbers of the events that its viewer saw, and those that were voided.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from agentq import AsyncClient, StoreUnavailable
from tests.chaos.checks import voided

if TYPE_CHECKING:
    from agentq.events.model import Event

_PATIENCE_S = 120.0
_FINAL = ("run.completed", "run.failed", "run.cancelled")


async def view(client: AsyncClient, run_id: str, dice: random.Random) -> dict[str, Any]:
    """Follow a run to its end, with interruptions."""
    seen: list[Event] = []
    returns = 0
    until = time.monotonic() + _PATIENCE_S
    await asyncio.sleep(dice.choice((0.0, 0.0, dice.uniform(0, 1.5))))
    while time.monotonic() < until:
        leaves_after = dice.choice((10_000, dice.randint(1, 40)))
        try:
            async with contextlib.aclosing(client.events(run_id, after=seen[-1].seq if seen else 0)) as events:
                async for event in events:
                    seen.append(event)
                    leaves_after -= 1
                    if leaves_after == 0:
                        break
                else:
                    return {
                        "run_id": run_id,
                        "numbers": [event.seq for event in seen],
                        "voided": sorted(voided(seen)),
                        "final": [event.type for event in seen if event.type in _FINAL],
                        "gaps": sum(event.type == "gap" for event in seen),
                        "returns": returns,
                    }
        except StoreUnavailable:
            await asyncio.sleep(0.05)
        returns += 1
    return {"run_id": run_id, "error": f"it saw no end within {_PATIENCE_S:g} s, but {len(seen)} events"}


async def main(redis_url: str, seed: int) -> None:
    dice = random.Random(seed)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncClient(redis_url) as client:
        views = [
            asyncio.create_task(view(client, line.decode().strip(), random.Random(dice.random())))
            async for line in reader
        ]
        for seen in await asyncio.gather(*views):
            sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
