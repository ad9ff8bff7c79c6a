"""`agentq cancel`: ask runs to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._selection import Selection, selecting

if TYPE_CHECKING:
    from agentq.cli._each import Done
    from agentq.client import AsyncClient

_OPEN = ("queued", "running", "waiting", "paused")


@click.command(
    "cancel",
    cls=AgentqCommand,
    exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE, ExitCode.TIMEOUT),
)
@selecting(*_OPEN)
@click.option("--reason", metavar="TEXT", default="", help="Why; it stands in the run and in its events.")
@click.option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0, help="Wait for the end so long.")
@pass_options
def command(options: Options, /, *, reason: str, wait: float, **given: Any) -> int:
    """Stop runs. Tools with an effect no longer start; what was said so far is kept.

    \b
    Examples:
      $ agentq cancel RUN_ID --reason 'wrong customer' --wait 5
      $ agentq cancel --agent calculator --status queued --since 1h --yes
    """
    import asyncio

    from agentq.cli._each import on_each

    which = Selection(**given)
    which.check()

    async def main() -> int:
        async with options.connected() as client:
            runs = await which.chosen(options, client, "cancel", _OPEN)
            return await on_each(options, client, runs, lambda run_id: _cancel(client, run_id, reason, wait))

    return asyncio.run(main())


async def _cancel(client: AsyncClient, run_id: str, reason: str, wait: float) -> Done:
    from agentq.cli._each import Done
    from agentq.cli._output import stdout
    from agentq.runs import Status

    out = stdout()
    status = await client.cancel(run_id, reason=reason, wait=wait)
    owner = None if status.is_final else (await client.read(run_id)).owner
    document = {"run_id": run_id, "status": str(status), "owner": owner}
    if status.is_final:  # it may have come to its end just before
        code = ExitCode.OK if status is Status.CANCELLED else ExitCode.CONFLICT
        return Done(f"{run_id} {out.style(status, 'yellow')}", document, code)
    who = f"worker {owner} stops it" if owner else "the next worker that takes it stops it"
    line = f"{run_id} {out.style('cancelling', 'yellow')}: {who}"
    return Done(line, document, ExitCode.TIMEOUT if wait else ExitCode.OK)
