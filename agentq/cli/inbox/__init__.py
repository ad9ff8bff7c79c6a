"""`agentq inbox`: what runs wait for people to say, as a list, or on a terminal with a key to decide."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _inbox
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._who import WHO

if TYPE_CHECKING:
    from agentq.deciding import Waiting

_HEADS = ("CALL", "WAITS", "LEFT", "AGENT", "FOR", "WHAT")
# What a narrow terminal does without, first to last.
_SPARED = ("FOR", "AGENT", "LEFT", "WAITS")


@click.command("inbox", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@_inbox.narrowing
@click.option("-l", "--list", "as_list", is_flag=True, help="Print a table, on a terminal too.")
@WHO
@pass_options
def command(options: Options, /, *, as_list: bool, by: str | None, **wanted: Any) -> int:
    """Show what runs wait for people to say, the longest first: calls to be allowed, questions, lost outcomes.

    On a terminal the keys decide (? tells them), and what is new appears by itself; elsewhere it is a table.
    --json prints {"waiting": [...]}. See `agentq approve`, `agentq deny` and `agentq answer`.
    """
    import asyncio

    from agentq.cli._output import stdout

    which = _inbox.Wanted(**wanted)
    if not (as_list or options.json) and _is_screen():
        return _sit(options, which, by)

    async def main() -> list[Waiting]:
        async with options.connected() as client:
            return await which.read(client)

    found = asyncio.run(main())
    if options.json:
        stdout().document({"waiting": [_inbox.document(each) for each in found]})
        return ExitCode.OK
    _print(found)
    return ExitCode.OK


def _is_screen() -> bool:
    """Whether there is somebody to press keys, and something to draw on."""
    from importlib.util import find_spec

    from agentq.cli._output import stdout

    return sys.stdin.isatty() and stdout().is_tty and find_spec("termios") is not None


def _sit(options: Options, which: _inbox.Wanted, by: str | None) -> ExitCode:
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._who import source, who
    from agentq.cli.inbox.desk import Desk

    async def main() -> tuple[ExitCode, str]:
        async with options.connected() as client:
            desk = Desk(client, which, by=who(by), source=source(), where=client.insight.where)
            return await desk.run(), desk.summary

    code, summary = asyncio.run(main())
    stdout().line(summary)
    return code


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
