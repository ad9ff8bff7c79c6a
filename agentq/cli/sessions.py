"""`agentq sessions`: the conversations there are, and the transcript of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.messages import Message
    from agentq.runs import SessionState

_HEADS = ("SESSION", "USER", "RUNS", "OPEN", "MESSAGES", "USED")


@click.command("sessions", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("session", required=False, shell_complete=_complete.sessions)
@click.option("--user", metavar="ID", help="Only sessions of this user.")
@click.option(
    "-n", "--limit", metavar="N", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most."
)
@click.option("--offset", metavar="N", type=click.IntRange(min=0), default=0, help="Leave out the first N.")
@click.option("--full", is_flag=True, help="Shorten no arguments and no results.")
@click.option("--delete", is_flag=True, help="Delete the session: what was said, its files, values and runs.")
@click.option("--cancel", is_flag=True, help="With --delete: cancel what goes on in it first.")
@click.option("--yes", is_flag=True, help="With --delete: do not ask.")
@pass_options
def command(
    options: Options,
    *,
    session: str | None,
    user: str | None,
    limit: int,
    offset: int,
    full: bool,
    delete: bool,
    cancel: bool,
    yes: bool,
) -> int:
    """List sessions, the one used last first; or show one with its transcript; or delete it. See `agentq export`, too.

    --json prints {"sessions": [...], "next": OFFSET or null}, or {"session": {...}, "messages": [...]}.
    """
    if delete:
        return _delete(options, session, cancel=cancel, yes=yes)
    if cancel or yes:
        raise click.UsageError("--cancel and --yes go with --delete")
    if session is None:
        return _list(options, user=user, limit=limit, offset=offset)
    if user is not None:
        raise click.UsageError("--user filters the list; leave it out to show one session")
    return _show(options, session, full=full)


def _list(options: Options, *, user: str | None, limit: int, offset: int) -> ExitCode:
    import asyncio
    import shlex

    from agentq.cli._output import age, stderr, stdout, table

    async def main() -> tuple[SessionState, ...]:
        async with options.connected() as client:
            return await client.sessions(user_id=user, limit=limit, offset=offset)

    found = asyncio.run(main())
    more = offset + limit if len(found) == limit else None
    if options.json:
        stdout().document({"sessions": [_document(each) for each in found], "next": more})
        return ExitCode.OK
    if not found:
        stderr().line("no sessions")
        return ExitCode.OK
    now_ms = time.time() * 1000
    rows = [
        (
            each.session_id,
            each.user_id or "",
            str(each.run_count),
            str(each.open_runs),
            str(each.message_count),
            age(now_ms - each.used_ms),
        )
        for each in found
    ]
    out = stdout()
    for number, cells in enumerate(table([_HEADS, *rows])):
        line = "  ".join(cells).rstrip()
        out.line(line if number else out.style(line, "dim"))
    if more:
        given = f" --user {shlex.quote(user)}" if user else ""
        err = stderr()
        err.line(err.style(f"more: agentq sessions{given} --offset {more}", "dim"))
    return ExitCode.OK


def _delete(options: Options, session_id: str | None, *, cancel: bool, yes: bool) -> ExitCode:
    import asyncio
    import sys

    from agentq.cli._output import one_line, stdout

    if session_id is None:
        raise click.UsageError("--delete takes one SESSION")
    if not yes and (options.json or not sys.stdin.isatty()):
        raise click.UsageError("that would delete a session for good; --yes says so")
    if not yes:
        click.confirm(f"delete session {one_line(session_id)} for good?", abort=True, err=True)

    async def main() -> None:
        async with options.connected() as client:
            await client.delete_session(session_id, cancel=cancel)

    asyncio.run(main())
    if options.json:
        stdout().document({"deleted": session_id})
    else:
        stdout().line(f"{one_line(session_id)} deleted")
    return ExitCode.OK


def _show(options: Options, session_id: str, *, full: bool) -> ExitCode:
    import asyncio

    from agentq.cli import _words
    from agentq.cli._output import PIPE_WIDTH, age, one_line, stdout

    async def main() -> tuple[SessionState, tuple[Message, ...]]:
        async with options.connected() as client:
            return await client.session(session_id), await client.session_messages(session_id)

    state, messages = asyncio.run(main())
    out = stdout()
    if options.json:
        transcript = [message.model_dump(mode="json", exclude_none=True) for message in messages]
        out.document({"session": _document(state), "messages": transcript})
        return ExitCode.OK
    waiting = state.open_runs - 1 if state.live_run_id else state.open_runs
    facts = {
        "session": state.session_id,
        "user": state.user_id,
        "runs": f"{state.run_count}, {state.open_runs} of them not ended" if state.open_runs else str(state.run_count),
        "live run": state.live_run_id and f"{state.live_run_id}{f', {waiting} in line behind it' if waiting else ''}",
        "used": f"{age(time.time() * 1000 - state.used_ms)} ago",
    }
    for label, text in facts.items():
        if text:
            out.line(f"{out.style(f'{label:<10}', 'dim')} {one_line(text)}")
    out.line()
    for line in _words.transcript(messages, out, width=None if full else out.width or PIPE_WIDTH):
        out.line(line)
    return ExitCode.OK


def _document(state: SessionState) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(state)
