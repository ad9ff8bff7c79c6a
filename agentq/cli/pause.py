"""`agentq pause`: keep runs from going on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.runs import Status

_WHEN = {"running": ": it is paused when its iteration has ended", "waiting": ": it is paused when it would go on"}

# What is paused as a whole.
AGENT = click.option("--agent", metavar="NAME", shell_complete=_complete.agents, help="All runs of this agent.")
QUEUE = click.option("-q", "--queue", metavar="QUEUE", help="All runs of this queue.")
ALL = click.option("--all", "everything", is_flag=True, help="All runs.")


def check_target(runs: tuple[str, ...], agent: str | None, queue: str | None, everything: bool) -> None:
    """Refuse what names nothing, or two things."""
    if bool(runs) + (agent is not None) + (queue is not None) + everything != 1:
        raise click.UsageError("name one of: RUN..., --agent NAME, --queue QUEUE, --all")


@click.command("pause", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="[RUN...]", nargs=-1, shell_complete=_complete.runs)
@AGENT
@QUEUE
@ALL
@click.option("--reason", metavar="TEXT", default="", help="Why; `agentq why` tells it.")
@click.option("--by", metavar="NAME", default="", help="Who does it.")
@pass_options
def command(
    options: Options,
    *,
    runs: tuple[str, ...],
    agent: str | None,
    queue: str | None,
    everything: bool,
    reason: str,
    by: str,
) -> int:
    """Keep runs from going on until `agentq resume`. An iteration that is under way is finished first.

    \b
    Examples:
      $ agentq pause RUN_ID --reason 'the customer is on the phone'
      $ agentq pause --agent shop --reason 'it orders twice' --by ada
      $ agentq pause --all
    """
    import asyncio
    from dataclasses import asdict

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout

    check_target(runs, agent, queue, everything)
    out = stdout()

    def said(run_id: str, status: Status) -> Done:
        line = f"{run_id} {out.style(status, 'yellow')}{_WHEN.get(status, '')}"
        return Done(line, {"run_id": run_id, "status": str(status)})

    async def main() -> int:
        async with options.connected() as client:
            if runs:

                async def pause(run_id: str) -> Done:
                    return said(run_id, await client.pause(run_id, reason=reason, by=by))

                return await on_each(options, client, runs, pause)
            stands = await client.pause_all(agent=agent, queue=queue, reason=reason, by=by)
        if options.json:
            out.document({"agent": agent, "queue": queue, "pause": asdict(stands)})
        else:
            what = f"agent {agent}" if agent else f"queue {queue}" if queue else "everything"
            out.line(f"{what} {out.style('paused', 'yellow')}: iterations that are under way end, no other begins")
        return ExitCode.OK

    return asyncio.run(main())
