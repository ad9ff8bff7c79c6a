"""`agentq queues`: what waits in the queues, and who serves them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.insight.facts import QueueInfo

_HEADS = ("QUEUE", "WAITING", "OLDEST", "FAILED", "WORKERS")
_SPARED = ("FAILED", "OLDEST")


@click.command("queues", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@pass_options
def command(options: Options) -> int:
    """List the queues: wake-ups that wait, the age of the oldest, RQ's failed jobs, workers.

    Of one tenant so many wait in a queue and no more; `10 + 990` says that 990 others are in line behind them.
    Runs that are delayed, back off or are behind another of their session have no wake-up: see `agentq stats`.
    Foreign jobs are such as no worker of agentq runs. --json prints {"queues": [...]}.
    """
    import asyncio

    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table

    async def main() -> tuple[QueueInfo, ...]:
        async with options.connected() as client:
            return await client.insight.queues()

    queues = asyncio.run(main())
    if options.json:
        stdout().document({"queues": [asdict(queue) for queue in queues]})
        return ExitCode.OK
    if not queues:
        stderr().line("no queues: nothing was enqueued so far, and no worker is there")
        return ExitCode.OK
    print_table(
        stdout(),
        _HEADS,
        [_cells(queue) for queue in queues],
        spared=_SPARED,
        styles=["red" if queue.waiting and not queue.workers else "" for queue in queues],
    )
    return ExitCode.OK


def _cells(queue: QueueInfo) -> list[str]:
    from agentq.cli._output import age, one_line
    from agentq.insight.why import start_worker

    workers = str(len(queue.workers))
    if queue.waiting and not queue.workers:
        workers = f"none; {start_worker(queue.name)}"
    foreign = f" ({queue.foreign} foreign)" if queue.foreign else ""
    in_line = f" + {queue.in_line}" if queue.in_line else ""
    return [
        one_line(queue.name),
        f"{queue.waiting}{in_line} (paused)" if queue.pause else f"{queue.waiting}{in_line}",
        "-" if queue.oldest_ms is None else age(time.time() * 1000 - queue.oldest_ms),
        f"{queue.failed}{foreign}",
        workers,
    ]
