"""`agentq approve`: allow calls that wait for it."""

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


@click.command("approve", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@deciding
@click.option("--args", "arguments", metavar="JSON|-", help="Call it with these arguments instead: all of them.")
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
    arguments: str | None,
    **wanted: Any,
) -> int:
    """Allow calls that wait for it, of a run or as the options choose. `agentq inbox` lists them.

    CALL is a call's id, or its end such as 1.0; it can be left out where one call of the run waits.

    \b
    Examples:
      $ agentq approve RUN_ID
      $ agentq approve RUN_ID 1.0 --args '{"order": "A-17", "cents": 9900}' --as ada
      $ agentq approve --agent clerk --tool refund --yes
    """
    meant = Meant(run, calls, Wanted(**wanted), everything, yes)
    if arguments is not None and (run is None or everything or len(calls) > 1):
        raise click.UsageError("--args is about one call; name its run, and the call where several wait")
    changed = None if arguments is None else _read_arguments(arguments)
    name, place = who(by), source()

    async def approve(client: AsyncClient, run_id: str, call_id: str | None) -> Status:
        return await client.approve(run_id, call_id, arguments=changed, by=name, source=place)

    return decide(options, meant, "approve", "approved", name, approve)


def _read_arguments(text: str) -> dict[str, Any]:
    """The arguments, from standard input where it is `-`."""
    import json
    import sys

    try:
        read = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise click.UsageError(f"--args is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise click.UsageError(f'--args must be a JSON object such as {{"cents": 9900}}, not {json.dumps(read):.40}')
    return read
