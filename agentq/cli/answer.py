"""`agentq answer`: say what became of a call that a waiting run asks about."""

from __future__ import annotations

from typing import Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options


@click.command("answer", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("run", metavar="RUN", shell_complete=_complete.runs)
@click.argument("result", metavar="[RESULT]", required=False)
@click.option("--did-not-happen", is_flag=True, help="The call had no effect: make it again.")
@click.option("--unknown", is_flag=True, help="It cannot be found out: tell the model so.")
@click.option("--call", "call_id", metavar="CALL_ID", help="The call that is meant, to be sure.")
@click.option("--by", metavar="NAME", default="", help="Who says it; it stands in the run's events.")
@pass_options
def command(
    options: Options,
    run: str,
    result: str | None,
    did_not_happen: bool,
    unknown: bool,
    call_id: str | None,
    by: str,
) -> int:
    """Say what became of a call whose worker died, as `agentq why RUN` asks: its RESULT, or one of the options.

    RESULT is what the tool would have returned, as text.

    \b
    Examples:
      $ agentq answer RUN_ID 'charged, receipt 4711' --by ada
      $ agentq answer RUN_ID --did-not-happen
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._watch import checked_run_id
    from agentq.tools.behaviour import Reconciled

    if (result is not None) + did_not_happen + unknown != 1:
        raise click.UsageError("say one of: RESULT, --did-not-happen, --unknown")
    answer: Any = result
    if result is None:
        answer = Reconciled.DID_NOT_HAPPEN if did_not_happen else Reconciled.UNKNOWN

    async def main() -> str:
        async with options.connected() as client:
            return await client.answer(checked_run_id(run), answer, call_id=call_id, by=by)

    status = asyncio.run(main())
    out = stdout()
    if options.json:
        out.document({"run_id": run, "status": str(status)})
    else:
        out.line(f"{run} {out.style(status, 'yellow')}")
    return ExitCode.OK
