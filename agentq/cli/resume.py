"""`agentq resume`: let paused runs go on."""

from __future__ import annotations

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options


@click.command("resume", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@click.option("--by", metavar="NAME", default="", help="Who does it.")
@pass_options
def command(options: Options, runs: tuple[str, ...], by: str) -> int:
    """Let runs go on that were paused, next in line. Those that are not paused stay as they are.

    \b
    Examples:
      $ agentq resume RUN_ID
    """
    import asyncio

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout

    async def main() -> int:
        async with options.connected() as client:

            async def resume(run_id: str) -> Done:
                status = await client.resume(run_id, by=by)
                return Done(f"{run_id} {stdout().style(status, 'yellow')}", {"run_id": run_id, "status": str(status)})

            return await on_each(options, client, runs, resume)

    return asyncio.run(main())
