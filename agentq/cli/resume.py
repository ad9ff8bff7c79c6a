"""`agentq resume`: let go on what was paused."""

from __future__ import annotations

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli.pause import AGENT, ALL, QUEUE, check_target


@click.command("resume", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="[RUN...]", nargs=-1, shell_complete=_complete.runs)
@AGENT
@QUEUE
@ALL
@click.option("--by", metavar="NAME", default="", help="Who does it; it stands in the events of a run.")
@pass_options
def command(
    options: Options, *, runs: tuple[str, ...], agent: str | None, queue: str | None, everything: bool, by: str
) -> int:
    """Let go on what was paused: runs (next in line), an agent, a queue, or what was paused with --all.

    What is not paused stays as it is. A run that was paused itself is resumed by its id only.

    \b
    Examples:
      $ agentq resume RUN_ID
      $ agentq resume --agent shop
    """
    import asyncio

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout

    check_target(runs, agent, queue, everything)
    out = stdout()

    async def main() -> int:
        async with options.connected() as client:
            if runs:

                async def resume(run_id: str) -> Done:
                    status = await client.resume(run_id, by=by)
                    return Done(f"{run_id} {out.style(status, 'yellow')}", {"run_id": run_id, "status": str(status)})

                return await on_each(options, client, runs, resume)
            await client.resume_all(agent=agent, queue=queue)
        if options.json:
            out.document({"agent": agent, "queue": queue, "pause": None})
        else:
            out.line(f"{f'agent {agent}' if agent else f'queue {queue}' if queue else 'everything'} resumed")
        return ExitCode.OK

    return asyncio.run(main())
