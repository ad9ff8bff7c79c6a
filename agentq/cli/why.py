"""`agentq why`: the reason why a run is not moving."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.cli._output import Output
    from agentq.insight.reasons import Reason


@click.command("why", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@click.argument("run", shell_complete=_complete.runs)
@pass_options
def command(options: Options, run: str) -> int:
    """Say why a run is not moving, and what to do about it; of one that has ended, how.

    --json prints {"run_id", "status", "code", "text", "fix", "notes", "details", "needs_help", "because"}.
    """
    import asyncio

    from agentq.cli._output import stdout
    from agentq.cli._watch import checked_run_id

    run_id = checked_run_id(run)

    async def main() -> Reason:
        async with options.connected() as client:
            return await client.why(run_id)

    reason = asyncio.run(main())
    out = stdout()
    if options.json:
        out.document(reason_document(reason))
        return ExitCode.OK
    for line in _lines(reason, out):
        out.line(line)
    return ExitCode.OK


def reason_document(reason: Reason) -> dict[str, Any]:
    """A reason as JSON; `because` is one too, of the run that this one is behind, or null."""
    return {
        "run_id": reason.run_id,
        "status": str(reason.status),
        "code": str(reason.code),
        "text": reason.text,
        "fix": reason.fix,
        "notes": list(reason.notes),
        "details": dict(reason.details),
        "needs_help": reason.needs_help,
        "because": reason_document(reason.because) if reason.because else None,
    }


def _lines(reason: Reason, out: Output) -> Iterator[str]:
    from agentq.cli._output import one_line
    from agentq.cli._table import paragraph
    from agentq.cli.show import status_word

    status = str(reason.status)
    first, *rest = paragraph(out, one_line(reason.text), first=f"{status}: ", rest="  ")
    yield status_word(status, out) + first[len(status) :]
    yield from rest
    if reason.fix:
        for line in paragraph(out, one_line(reason.fix), first="→ ", rest="  "):
            yield out.style(line, "yellow" if reason.needs_help else "cyan")
    for note in (*_times(reason), *reason.notes):
        for line in paragraph(out, one_line(note), first="· ", rest="  "):
            yield out.style(line, "dim")


def _times(reason: Reason) -> Iterator[str]:
    until_ms = reason.details.get("until_ms")
    if until_ms:
        yield f"until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(until_ms / 1000))}"
