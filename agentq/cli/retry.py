"""`agentq retry`: take up runs again that failed or were cancelled."""

from __future__ import annotations

from typing import Any

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._selection import Selection, selecting


@click.command("retry", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@selecting("failed", "cancelled")
@pass_options
def command(options: Options, /, **given: Any) -> int:
    """Take up runs again that failed or were cancelled, from where they stopped. Nothing that was done is done again.

    \b
    Examples:
      $ agentq retry RUN_ID
      $ agentq retry --status failed --agent calculator --since 2h
    """
    import asyncio

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout

    which = Selection(**given)
    which.check()

    async def main() -> int:
        async with options.connected() as client:
            runs = await which.chosen(options, client, "retry", ("failed",))

            async def retry(run_id: str) -> Done:
                status = await client.retry(run_id)
                return Done(f"{run_id} {stdout().style(status, 'yellow')}", {"run_id": run_id, "status": str(status)})

            return await on_each(options, client, runs, retry)

    return asyncio.run(main())
