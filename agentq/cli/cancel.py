"""`agentq cancel`: ask runs to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.client import AsyncClient


@click.command(
    "cancel",
    cls=AgentqCommand,
    exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE, ExitCode.TIMEOUT),
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@click.option("--reason", metavar="TEXT", default="", help="Why; it stands in the run and in its events.")
@click.option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0, help="Wait for the end so long.")
@pass_options
def command(options: Options, runs: tuple[str, ...], reason: str, wait: float) -> int:
    """Stop runs. Tools with an effect no longer start; what was said so far is kept.

    \b
    Examples:
      $ agentq cancel RUN_ID --reason 'wrong customer' --wait 5
    """
    import asyncio

    from agentq.cli._errors import worst
    from agentq.cli._output import stdout

    async def main() -> list[tuple[ExitCode, dict[str, Any]]]:
        async with options.connected() as client:
            return [await _cancel(options, client, run, reason, wait) for run in dict.fromkeys(runs)]

    results = asyncio.run(main())
    if options.json:
        stdout().document({"runs": [document for _, document in results if document]})
    return worst([code for code, _ in results])


async def _cancel(
    options: Options, client: AsyncClient, run: str, reason: str, wait: float
) -> tuple[ExitCode, dict[str, Any]]:
    """Cancel one run and say so. What is wrong with one does not keep the others."""
    from agentq import errors
    from agentq.cli._errors import exit_code, report
    from agentq.cli._output import stderr, stdout
    from agentq.cli._watch import checked_run_id
    from agentq.runs import Status

    try:
        run_id = checked_run_id(run)
        status = await client.cancel(run_id, reason=reason, wait=wait)
        owner = None if status.is_final else (await client.read(run_id)).owner
    except (errors.NotFound, errors.Conflict, errors.ResultTimeout) as error:
        report(error, stderr(), as_json=options.json, debug=options.debug)
        return exit_code(error), {}
    if not options.json:
        out = stdout()
        if status.is_final:
            out.line(f"{run_id} {out.style(status, 'yellow')}")
        else:
            who = f"worker {owner} stops it" if owner else "the next worker that takes it stops it"
            out.line(f"{run_id} {out.style('cancelling', 'yellow')}: {who}")
    document = {"run_id": run_id, "status": str(status), "owner": owner}
    if status.is_final:  # it may have come to its end just before
        return ExitCode.OK if status is Status.CANCELLED else ExitCode.CONFLICT, document
    return ExitCode.TIMEOUT if wait else ExitCode.OK, document
