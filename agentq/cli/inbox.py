"""`agentq inbox`: what runs wait for people to say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _inbox
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.deciding import Waiting

_HEADS = ("CALL", "WAITS", "LEFT", "AGENT", "FOR", "WHAT")
# What a narrow terminal does without, first to last.
_SPARED = ("FOR", "AGENT", "LEFT", "WAITS")


@click.command("inbox", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@_inbox.narrowing
@click.option("-l", "--list", "as_list", is_flag=True, help="Print a table, on a terminal too.")
@pass_options
def command(options: Options, /, *, as_list: bool, **wanted: Any) -> int:
    """List what runs wait for people to say, the longest first: calls to be allowed, questions, lost outcomes.

    --json prints {"waiting": [...]}. See `agentq approve`, `agentq deny` and `agentq answer`.
    """
    import asyncio

    from agentq.cli._output import stdout

    which = _inbox.Wanted(**wanted)

    async def main() -> list[Waiting]:
        async with options.connected() as client:
            return await which.read(client)

    found = asyncio.run(main())
    if options.json:
        stdout().document({"waiting": [_inbox.document(each) for each in found]})
        return ExitCode.OK
    _print(found)
    return ExitCode.OK


def _print(found: list[Waiting]) -> None:
    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table

    err = stderr()
    if not found:
        err.line("nothing waits for anybody")
        return
    rows = [_inbox.told(each, time.time() * 1000) for each in found]
    cells = [[row.call_id, row.age, row.left, row.agent, row.for_whom, row.what] for row in rows]
    print_table(stdout(), _HEADS, cells, spared=_SPARED, styles=[row.style for row in rows])
    if len({each.run.run_id for each in found}) >= _inbox.MOST:
        err.line(err.style(f"only the newest {_inbox.MOST} runs that wait are listed", "dim"))
