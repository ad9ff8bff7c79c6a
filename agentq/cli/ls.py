"""`agentq ls`: runs, newest first."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.runs import Status

if TYPE_CHECKING:
    from agentq.runs import RunState

_HEADS = ("RUN", "STATUS", "AGENT", "AGE", "ITER", "PROMPT OR LAST ERROR")
# What a narrow terminal does without, first to last.
_SPARED = ("ITER", "AGENT", "AGE")


@click.command("ls", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only runs with this status.")
@click.option("--agent", metavar="AGENT", shell_complete=_complete.agents, help="Only runs of this agent.")
@click.option("--session", metavar="ID", shell_complete=_complete.sessions, help="Only runs of this session.")
@click.option("--user", metavar="ID", help="Only runs for this user.")
@click.option(
    "-n", "--limit", metavar="N", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most."
)
@click.option("--before", metavar="RUN", help="Go on after this run, the last one of the page before.")
@pass_options
def command(
    options: Options,
    *,
    status: str | None,
    agent: str | None,
    session: str | None,
    user: str | None,
    limit: int,
    before: str | None,
) -> int:
    """List runs, newest first.

    --json prints {"runs": [...], "next": RUN or null}; `--before` takes `next`.

    \b
    Examples:
      $ agentq ls --status failed
      $ agentq ls --user ann --limit 5 --json
    """
    import asyncio

    from agentq.cli._output import stderr, stdout
    from agentq.cli._watch import checked_run_id
    from agentq.cli.show import run_document

    before = checked_run_id(before) if before else None

    async def main() -> tuple[RunState, ...]:
        async with options.connected() as client:
            return await client.list(
                status=Status(status) if status else None,
                agent=agent,
                session_id=session,
                user_id=user,
                before=before,
                limit=limit,
            )

    runs = asyncio.run(main())
    more = runs[-1].run_id if len(runs) == limit else None
    if options.json:
        stdout().document({"runs": [run_document(run) for run in runs], "next": more})
        return ExitCode.OK
    if not runs:
        stderr().line("no runs")
        return ExitCode.OK
    _print(runs)
    if more:
        filters = {"status": status, "agent": agent, "session": session, "user": user}
        given = "".join(f" --{name} {shlex.quote(value)}" for name, value in filters.items() if value)
        out = stderr()
        out.line(out.style(f"more: agentq ls{given} --before {more}", "dim"))
    return ExitCode.OK


def _about(run: RunState) -> str:
    """What tells a run from others: its last error, else its prompt."""
    from agentq.cli._output import one_line

    return one_line(run.last_error or run.prompt)


def _print(runs: tuple[RunState, ...]) -> None:
    from agentq.cli._output import PIPE_WIDTH, age, clip, stdout
    from agentq.cli._table import fitting, taken
    from agentq.cli.show import status_word

    out = stdout()
    now_ms = time.time() * 1000
    rows = [
        (
            run.run_id,
            str(run.status),
            run.agent,
            age(now_ms - run.created_ms),
            str(run.iteration),
            _about(run),
        )
        for run in runs
    ]
    width = out.width or PIPE_WIDTH
    heads, *lines = fitting([_HEADS, *rows], width, spared=_SPARED)
    room = width - taken(heads)
    out.line(out.style("  ".join([*heads[:-1], clip(heads[-1], room)]), "dim"))
    for run, cells in zip(runs, lines, strict=True):
        *front, text = cells
        text = clip(text, room)
        front[1] = status_word(run.status, out) + front[1][len(run.status) :]
        out.line("  ".join([*front, out.style(text, "red") if run.last_error else text]).rstrip())
