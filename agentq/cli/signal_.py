"""`agentq signal`: tell a run that something has happened."""

from __future__ import annotations

from typing import Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._who import WHO, who


@click.command("signal", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("run", metavar="RUN", shell_complete=_complete.runs)
@click.argument("name", metavar="NAME")
@click.argument("data", metavar="[JSON|-]", required=False)
@click.option("--id", "signal_id", metavar="ID", help="The same id again has no effect.")
@WHO
@pass_options
def command(options: Options, *, run: str, name: str, data: str | None, signal_id: str | None, by: str | None) -> int:
    """Tell a run that NAME has happened, for a tool that waits for it now or later, with what it is to be told.

    \b
    Examples:
      $ agentq signal RUN_ID packed '{"by": "ann"}'
      $ agentq signal RUN_ID paid --id payment-4711
    """
    import asyncio

    from agentq.cli._output import one_line, stdout
    from agentq.cli._watch import checked_run_id

    value, out, who_says = _read(data), stdout(), who(by)

    async def main() -> str:
        async with options.connected() as client:
            return await client.signal(checked_run_id(run), name, value, signal_id=signal_id, by=who_says)

    status = asyncio.run(main())
    if options.json:
        out.document({"run_id": checked_run_id(run), "signal": name, "by": who_says, "status": str(status)})
    else:
        out.line(
            f"{checked_run_id(run)} {out.style(status, 'yellow')}: {one_line(name)} was sent as {one_line(who_says)}"
        )
    return ExitCode.OK


def _read(data: str | None) -> Any:
    """What the run is told, from standard input where it is `-`; None for nothing."""
    if data is None:
        return None
    import json
    import sys

    try:
        return json.loads(sys.stdin.read() if data == "-" else data)
    except ValueError as error:
        hint = "a text needs quotes of its own, as in '\"ann\"'"
        raise click.UsageError(f"what the run is told must be JSON: {error}; {hint}") from error
