"""`agentq workers`: who works, on which queues, how busy."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.insight.facts import WorkerInfo

_HEADS = ("WORKER", "STATE", "RUNS", "QUEUES", "UP", "DONE", "FAILED", "VERSION", "HOST", "PID", "AGENTS")
# What a narrow terminal does without, first to last. Host and process id stand in the name of our own workers.
_SPARED = ("PID", "HOST", "VERSION", "FAILED", "DONE", "UP", "RUNS", "QUEUES")
_COLOURS = {"silent": "red", "suspended": "yellow"}


@click.command("workers", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@pass_options
def command(options: Options) -> int:
    """List the workers that are there: state, iterations in flight, queues, agents. Stock rq workers are marked.

    A worker that was killed is listed until its record has run out: 90 s, a stock one up to 8 minutes.
    --json prints {"workers": [...]}.
    """
    import asyncio

    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table
    from agentq.insight.why import start_worker

    async def main() -> tuple[WorkerInfo, ...]:
        async with options.connected() as client:
            return await client.insight.workers()

    workers = asyncio.run(main())
    if options.json:
        stdout().document({"workers": [worker_document(worker) for worker in workers]})
        return ExitCode.OK
    if not workers:
        stderr().line(f"no workers; {start_worker(options.settings().queue)}")
        return ExitCode.OK
    print_table(
        stdout(),
        _HEADS,
        [_cells(worker) for worker in workers],
        spared=_SPARED,
        styles=[_COLOURS.get(_state(worker), "") for worker in workers],
    )
    return ExitCode.OK


def worker_document(worker: WorkerInfo) -> dict[str, Any]:
    """A worker as JSON; `kind` is agentq or rq, and what a stock rq worker does not say is null."""
    return {"kind": "agentq" if worker.is_agentq else "rq", **asdict(worker)}


def _state(worker: WorkerInfo) -> str:
    return "silent" if worker.is_silent else worker.state


def _cells(worker: WorkerInfo) -> list[str]:
    from agentq.cli._output import age, one_line

    in_flight = "-" if worker.in_flight is None else f"{worker.in_flight}/{worker.concurrency}"
    agents = "stock rq worker" if worker.agents is None else ", ".join(worker.agents)
    cells = [
        worker.name,
        _state(worker),
        in_flight,
        ",".join(worker.queues),
        age(time.time() * 1000 - worker.started_ms) if worker.started_ms else "-",
        str(worker.done),
        str(worker.failed),
        worker.version or "-",
        worker.host or "-",
        str(worker.pid or "-"),
        agents,
    ]
    return [one_line(cell) for cell in cells]
