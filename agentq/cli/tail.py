"""`agentq tail`: everything that happened in runs, then what happens."""

from __future__ import annotations

import click

from agentq.cli import _complete
from agentq.cli._errors import RUN_EXITS, ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options


@click.command("tail", cls=AgentqCommand, exits=(*RUN_EXITS, ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@click.option("--after", metavar="CURSOR", type=click.IntRange(min=0), help="Begin after this event (its seq).")
@click.option("--no-follow", is_flag=True, help="Stop at the last event; do not wait for more.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time.")
@click.option("--full", is_flag=True, help="Shorten no arguments and no results.")
@pass_options
def command(
    options: Options, runs: tuple[str, ...], after: int | None, no_follow: bool, timestamps: bool, full: bool
) -> int:
    """Watch runs: everything so far, then live.

    Ctrl-C detaches; the run goes on. The exit code says how the run ended: with several, the worst.

    \b
    Examples:
      $ agentq tail RUN_ID
      $ agentq tail RUN_ID --after 12 --no-follow --json
    """
    from agentq.cli._watch import Look, Watch, checked_run_id, watch

    run_ids = list(dict.fromkeys(checked_run_id(run) for run in runs))
    if after is not None and len(run_ids) > 1:
        raise click.UsageError("--after is the cursor of one run; tail them one by one")
    view = Watch(options, Look(json=options.json, timestamps=timestamps, full=full))

    async def main() -> ExitCode:
        async with options.connected() as client:
            return await view.follow(client, run_ids, after=after or 0, live=not no_follow)

    return watch(view, main)
