"""`agentq retry`: take up runs again that failed or were cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.client import AsyncClient


@click.command("retry", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@pass_options
def command(options: Options, runs: tuple[str, ...]) -> int:
    """Take up runs again that failed or were cancelled, from where they stopped. Nothing that was done is done again.

    \b
    Examples:
      $ agentq retry RUN_ID
      $ agentq tail RUN_ID
    """
    import asyncio

    from agentq.cli._errors import worst
    from agentq.cli._output import stdout

    async def main() -> list[tuple[ExitCode, dict[str, Any]]]:
        async with options.connected() as client:
            return [await _retry(options, client, run) for run in dict.fromkeys(runs)]

    results = asyncio.run(main())
    if options.json:
        stdout().document({"runs": [document for _, document in results if document]})
    return worst([code for code, _ in results])


async def _retry(options: Options, client: AsyncClient, run: str) -> tuple[ExitCode, dict[str, Any]]:
    """Retry one run and say so. What is wrong with one does not keep the others."""
    from agentq import errors
    from agentq.cli._errors import exit_code, report
    from agentq.cli._output import stderr, stdout
    from agentq.cli._watch import checked_run_id

    try:
        run_id = checked_run_id(run)
        status = await client.retry(run_id)
    except (errors.NotFound, errors.Conflict) as error:
        report(error, stderr(), as_json=options.json, debug=options.debug)
        return exit_code(error), {}
    if not options.json:
        out = stdout()
        out.line(f"{run_id} {out.style(status, 'yellow')}")
    return ExitCode.OK, {"run_id": run_id, "status": str(status)}
