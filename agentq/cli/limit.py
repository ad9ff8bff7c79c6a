"""`agentq limit`: give runs other limits."""

from __future__ import annotations

from typing import Any

import click

from agentq.cli import _complete, _limits
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._who import WHO, who


@click.command("limit", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete.runs)
@_limits.limiting
@WHO
@pass_options
def command(options: Options, /, *, runs: tuple[str, ...], by: str | None, **given: Any) -> int:
    """Give runs limits of their own; what is left out stays as it was. A run that waits for more looks again.

    A run that has failed for a limit has the new ones when it is retried.

    \b
    Examples:
      $ agentq limit RUN_ID --max-tokens 200000 --as ada
      $ agentq limit RUN_ID --max-cost 2 --on-limit wait
    """
    import asyncio

    from agentq.cli._each import Done, on_each
    from agentq.cli._output import stdout
    from agentq.limits import RunLimits

    limits = _limits.taken(given) or RunLimits()
    name = who(by)

    async def main() -> int:
        async with options.connected() as client:

            async def limit(run_id: str) -> Done:
                status = await client.set_limits(run_id, limits, by=name)
                own = (await client.read(run_id)).limits
                stands = own.given() if own is not None else {}
                words = ", ".join(f"{name}={value}" for name, value in stands.items()) or "none of its own"
                line = f"{run_id} {stdout().style(status, 'yellow')}: {words}"
                return Done(line, {"run_id": run_id, "status": str(status), "limits": stands})

            return await on_each(options, client, runs, limit)

    return asyncio.run(main())
