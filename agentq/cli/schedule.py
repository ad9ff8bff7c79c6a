"""`agentq schedule`: prompts that workers enqueue by the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, AgentqGroup, Options, pass_options
from agentq.cli.enqueue import read_metadata, read_prompt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentq.client import AsyncClient
    from agentq.schedules import ScheduleState

_HEADS = ("NAME", "CRON", "ZONE", "AGENT", "NEXT", "LAST RUN", "RUNS", "SKIPPED")
_EXITS = (ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE)

command = AgentqGroup(
    name="schedule",
    modules={
        "add": ("agentq.cli.schedule:add", "Add a schedule, or put another in its place."),
        "ls": ("agentq.cli.schedule:ls", "List schedules, the next to fire first."),
        "rm": ("agentq.cli.schedule:rm", "Forget schedules; their runs stay."),
        "pause": ("agentq.cli.schedule:pause", "Let schedules not fire."),
        "resume": ("agentq.cli.schedule:resume", "Let schedules fire again."),
        "run-now": ("agentq.cli.schedule:run_now", "Make a run of a schedule now; prints the run id."),
    },
    help="Prompts that workers enqueue by the clock.",
    exits=_EXITS,
    no_args_is_help=True,
)


@click.command("add", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@click.argument("name")
@click.argument("agent", shell_complete=_complete.agents)
@click.argument("prompt", metavar="PROMPT|-")
@click.option("--cron", metavar="FIELDS", required=True, help="Minute, hour, day, month, day of the week; or @daily.")
@click.option("--timezone", metavar="ZONE", default="UTC", show_default=True, help="As in Europe/Berlin.")
@click.option(
    "--catch-up",
    type=click.Choice(["last", "all", "none"]),
    default="last",
    show_default=True,
    help="What of that which was missed while no worker was there is made up for.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip"]),
    default="allow",
    show_default=True,
    help="Whether to fire while the last run has not ended.",
)
@click.option("--session", metavar="ID", help="The session that the runs belong to.")
@click.option("--user", metavar="ID", help="The user that they are for.")
@click.option("--queue", metavar="NAME", help="The queue, in place of the agent's.")
@click.option("--model", metavar="NAME", help="A model in place of the agent's, as provider:model.")
@click.option(
    "--meta", "metadata", metavar="KEY=VALUE", multiple=True, callback=read_metadata, help="Metadata; may repeat."
)
@pass_options
def add(options: Options, /, *, name: str, agent: str, prompt: str, cron: str, timezone: str, **given: Any) -> int:
    """Add a schedule, or put another in the place of the one of that name. Workers carry it out.

    \b
    Example:
      $ agentq schedule add report writer 'Write the report.' --cron '0 9 * * mon-fri' --timezone Europe/Berlin
    """
    from agentq.cli._output import stdout

    more = {"session_id": given["session"], "user_id": given["user"], "queue": given["queue"], "model": given["model"]}
    chosen = {"catch_up": given["catch_up"], "overlap": given["overlap"], "metadata": given["metadata"] or None}
    text = read_prompt(prompt)
    state = _run(
        options,
        lambda client: client.schedule(name, agent, text, cron=cron, timezone=timezone, **more, **chosen),
    )
    if options.json:
        stdout().document(_document(state))
    else:
        stdout().line(f"{name}: paused" if state.next_ms is None else f"{name}: next at {_when(state.next_ms)}")
    return ExitCode.OK


@click.command("ls", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@pass_options
def ls(options: Options) -> int:
    """List schedules, the next to fire first. --json prints {"schedules": [...]}."""
    from agentq.cli._output import age, one_line, stderr, stdout
    from agentq.cli._table import print_table

    states = _run(options, lambda client: client.schedules())
    if options.json:
        stdout().document({"schedules": [_document(state) for state in states]})
        return ExitCode.OK
    if not states:
        stderr().line("no schedules; `agentq schedule add` makes one")
        return ExitCode.OK
    now_ms = time.time() * 1000
    rows = [
        [
            state.schedule.name,
            one_line(state.schedule.cron),
            state.schedule.timezone,
            state.schedule.agent,
            "paused" if state.next_ms is None else _when(state.next_ms),
            "-" if state.last_ms is None else f"{age(now_ms - state.last_ms)} ago",
            str(state.fired),
            str(state.skipped),
        ]
        for state in states
    ]
    print_table(stdout(), _HEADS, rows, spared=("SKIPPED", "RUNS"), styles=[""] * len(rows))
    return ExitCode.OK


@click.command("rm", cls=AgentqCommand, exits=_EXITS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_options
def rm(options: Options, *, names: tuple[str, ...]) -> int:
    """Forget schedules; their runs stay."""
    return _each(options, names, "forgotten", lambda client, name: client.unschedule(name))


@click.command("pause", cls=AgentqCommand, exits=_EXITS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_options
def pause(options: Options, *, names: tuple[str, ...]) -> int:
    """Let schedules not fire until they are resumed."""
    return _each(options, names, "paused", lambda client, name: client.pause_schedule(name))


@click.command("resume", cls=AgentqCommand, exits=_EXITS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_options
def resume(options: Options, *, names: tuple[str, ...]) -> int:
    """Let schedules fire again, at their next times; what came meanwhile is not made up for."""
    return _each(options, names, "resumed", lambda client, name: client.resume_schedule(name))


@click.command("run-now", cls=AgentqCommand, exits=_EXITS)
@click.argument("name")
@pass_options
def run_now(options: Options, *, name: str) -> int:
    """Make a run of a schedule now, out of turn; prints the run id. The schedule itself stays as it is."""
    from agentq.cli._output import stdout

    run_id = _run(options, lambda client: client.run_schedule(name))
    if options.json:
        stdout().document({"run_id": run_id})
    else:
        stdout().line(run_id)
    return ExitCode.OK


def _each(
    options: Options, names: tuple[str, ...], done: str, change: Callable[[AsyncClient, str], Awaitable[object]]
) -> ExitCode:
    from agentq.cli._output import stdout

    async def all_of(client: AsyncClient) -> None:
        for name in names:
            await change(client, name)
            if not options.json:
                stdout().line(f"{name}: {done}")

    _run(options, all_of)
    if options.json:
        stdout().document({"schedules": list(names)})
    return ExitCode.OK


def _run(options: Options, work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    import asyncio

    async def main() -> Any:
        async with options.connected() as client:
            return await work(client)

    return asyncio.run(main())


def _when(at_ms: int) -> str:
    from agentq.schedules import time_of

    return time_of(at_ms)


def _document(state: ScheduleState) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(state)
