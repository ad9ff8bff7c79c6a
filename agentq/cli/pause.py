"""`agentq pause`: keep runs from going on."""

from __future__ import annotations

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options


@click.command("pause", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@click.option("--reason", metavar="TEXT", default="", help="Why; it stands in the run and in its events.")
@click.option("--by", metavar="NAME", default="", help="Who does it.")
@pass_options
def command(options: Options, runs: tuple[str, ...], reason: str, by: str) -> int:
    """Keep runs from going on until `agentq resume`. An iteration that is under way is finished first.

    \b
    Examples:
      $ agentq pause RUN_ID --reason 'the customer is on the phone'
      $ agentq resume RUN_ID
    """
    import asyncio

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout

    async def main() -> int:
        async with options.connected() as client:

            async def pause(run_id: str) -> Done:
                status = await client.pause(run_id, reason=reason, by=by)
                when = {"running": ": it is paused when its iteration has ended", "waiting": ": it is paused when it"
                        " would go on"}  # fmt: skip
                line = f"{run_id} {stdout().style(status, 'yellow')}{when.get(status, '')}"
                return Done(line, {"run_id": run_id, "status": str(status)})

            return await on_each(options, client, runs, pause)

    return asyncio.run(main())
