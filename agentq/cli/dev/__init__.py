"""`agentq dev`: a Redis if none is named, workers, and everything that happens, in one terminal."""

from __future__ import annotations

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

__all__ = ["command"]


@click.command("dev", cls=AgentqCommand, exits=(ExitCode.CONFLICT, ExitCode.UNAVAILABLE, ExitCode.INTERRUPTED))
@click.option("-n", "--workers", metavar="N", type=click.IntRange(1, 32), default=1, show_default=True, help="Workers.")
@click.option("-q", "--queue", "queues", metavar="QUEUE", multiple=True, help="A queue to serve; may repeat.")
@click.option("-c", "--concurrency", metavar="N", type=click.IntRange(min=1), help="Iterations at once, each worker.")
@click.option("--reload", is_flag=True, help="Start the workers again when a .py file here changes.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time.")
@click.option("--full", is_flag=True, help="Shorten no arguments and no results.")
@pass_options
def command(
    options: Options,
    *,
    workers: int,
    queues: tuple[str, ...],
    concurrency: int | None,
    reload: bool,
    timestamps: bool,
    full: bool,
) -> int:
    """Develop: Redis, workers, and everything that happens, in one terminal.

    Without REDIS_URL it starts a Redis of this project's own, whose runs are there again the next time. Ctrl-C ends all
    of it; runs that were in flight go on with the next start.

    \b
    Examples:
      $ agentq dev --reload
      $ agentq dev --workers 2 --queue urgent --queue default
    """
    import asyncio

    from agentq.cli._watch import Look
    from agentq.cli.dev.stage import Plan, develop

    given = [word for queue in queues for word in ("--queue", queue)]
    if concurrency is not None:
        given += ["--concurrency", str(concurrency)]
    look = Look(json=options.json, timestamps=timestamps, full=full)
    return asyncio.run(develop(options, Plan(workers, tuple(given), reload, queues), look))
