"""`agentq deny`: refuse calls that wait to be allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentq.cli._decide import Meant, decide, deciding
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._inbox import Wanted
from agentq.cli._who import source, who

if TYPE_CHECKING:
    from agentq.client import AsyncClient
    from agentq.runs import Status


@click.command("deny", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@deciding
@click.option("--reason", metavar="TEXT", default="", help="Why; the model reads it.")
@pass_options
def command(
    options: Options,
    /,
    *,
    run: str | None,
    calls: tuple[str, ...],
    everything: bool,
    yes: bool,
    by: str | None,
    reason: str,
    **wanted: Any,
) -> int:
    """Refuse calls that wait to be allowed, of a run or as the options choose. The run goes on without them.

    CALL is a call's id, or its end such as 1.0; it can be left out where one call of the run waits.

    \b
    Examples:
      $ agentq deny RUN_ID --reason 'ask the customer first'
      $ agentq deny --tool refund --all --reason 'the office is closed' --yes
    """
    meant = Meant(run, calls, Wanted(**wanted), everything, yes)
    name, place = who(by), source()

    async def deny(client: AsyncClient, run_id: str, call_id: str | None) -> Status:
        return await client.deny(run_id, call_id, reason=reason, by=name, source=place)

    return decide(options, meant, "deny", "denied", name, deny)
