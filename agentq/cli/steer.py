"""`agentq steer`: say something to a run that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli.enqueue import FILES, read_prompt

if TYPE_CHECKING:
    from pathlib import Path


@click.command("steer", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("run", metavar="RUN", shell_complete=_complete.runs)
@click.argument("text", metavar="TEXT|-")
@FILES
@click.option("--by", metavar="NAME", default="", help="Who says it; it stands in the run's events.")
@click.option("--next", "is_next", is_flag=True, help="Enqueue it as the next run of the session; prints its id.")
@pass_options
def command(options: Options, *, run: str, text: str, files: list[Path | str], by: str, is_next: bool) -> int:
    """Say something to a run that goes on: its next iteration reads it. With --next, to its session.

    \b
    Examples:
      $ agentq steer RUN_ID 'in euros, please'
      $ agentq steer RUN_ID --next 'and in dollars?'
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._watch import checked_run_id

    text = read_prompt(text)
    if is_next and by:
        raise click.UsageError("--by belongs to a message for the run itself; leave it out with --next")

    async def main() -> int:
        run_id, out = checked_run_id(run), stdout()
        async with options.connected() as client:
            if is_next:
                following = await client.follow_up(run_id, text, files=files)
                if options.json:
                    out.document({"run_id": following.id, "agent": following.agent})
                else:
                    out.line(following.id)
                return ExitCode.OK
            status = await client.steer(run_id, text, files=files, by=by)
        if options.json:
            out.document({"run_id": run_id, "status": str(status)})
        else:
            out.line(f"{run_id} {out.style(status, 'yellow')}: its next iteration reads it")
        return ExitCode.OK

    return asyncio.run(main())
