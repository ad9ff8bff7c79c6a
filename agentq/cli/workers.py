"""`agentq workers`: who works, on which queues, how busy; and workers that are told to take nothing new."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, AgentqGroup, Options, pass_options
from agentq.cli._who import WHO, who

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.client import AsyncClient
    from agentq.insight.facts import WorkerInfo

_HEADS = ("WORKER", "STATE", "RUNS", "QUEUES", "UP", "DONE", "FAILED", "VERSION", "HOST", "PID", "AGENTS")
# What a narrow terminal does without, first to last. Host and process id stand in the name of our own workers.
_SPARED = ("PID", "HOST", "VERSION", "FAILED", "DONE", "UP", "RUNS", "QUEUES")
_COLOURS = {"silent": "red", "suspended": "yellow", "quiet": "yellow"}
# Workers look every second, and report as often.
_HEARD_WITHIN_S = 4.0
_LOOK_EVERY_S = 0.1


@pass_options
def _list(options: Options) -> int:
    if click.get_current_context().invoked_subcommand is not None:
        return ExitCode.OK
    import asyncio

    from agentq.cli._output import stderr, stdout
    from agentq.cli._table import print_table
    from agentq.insight.why import start_worker

    async def main() -> tuple[WorkerInfo, ...]:
        async with options.connected() as client:
            return await client.insight.workers()

    workers = asyncio.run(main())
    if options.json:
        stdout().document({"workers": [worker_document(worker) for worker in workers]})
        return ExitCode.OK
    if not workers:
        stderr().line(f"no workers; {start_worker(options.settings().queue)}")
        return ExitCode.OK
    print_table(
        stdout(),
        _HEADS,
        [_cells(worker) for worker in workers],
        spared=_SPARED,
        styles=[_COLOURS.get(_state(worker), "") for worker in workers],
    )
    return ExitCode.OK


command = AgentqGroup(
    name="workers",
    modules={
        "quiet": ("agentq.cli.workers:quiet", "Let workers take nothing new and finish what they have."),
        "resume": ("agentq.cli.workers:resume", "Let quiet workers take work again."),
    },
    help="""List the workers that are there: state, iterations in flight, queues, agents. Stock rq workers are marked.

    A worker that was killed is listed until its record has run out: 90 s, a stock one up to 8 minutes.
    --json prints {"workers": [...]}.
    """,
    callback=_list,
    invoke_without_command=True,
    exits=(ExitCode.UNAVAILABLE,),
)


def _naming(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and the options that say which workers are meant."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask before it is done to the workers that were chosen."),
        click.option("--all", "everybody", is_flag=True, help="All workers of agentq that are there now."),
        click.option("--host", metavar="HOST", help="All of them on this machine, as the list names it."),
        click.argument("names", metavar="[WORKER...]", nargs=-1, shell_complete=_complete.workers),
    ):
        function = option(function)
    return function


@click.command(
    "quiet",
    cls=AgentqCommand,
    exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE, ExitCode.TIMEOUT),
)
@_naming
@click.option("--reason", metavar="TEXT", default="", help="Why; the worker's log tells it.")
@WHO
@click.option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0, help="Wait so long until idle.")
@pass_options
def quiet(
    options: Options,
    *,
    names: tuple[str, ...],
    host: str | None,
    everybody: bool,
    yes: bool,
    reason: str,
    by: str | None,
    wait: float,
) -> int:
    """Let workers take no new work and finish what they have, without ending. Other workers take the rest.

    It holds until `agentq workers resume`, and for these processes only: one that starts later, or again, takes work.
    To keep all work from going on, see `agentq pause --all`.

    \b
    Examples:
      $ agentq workers quiet WORKER --wait 60
      $ agentq workers quiet --host web-3 --reason 'a new kernel' --yes
    """
    _check(names, host, everybody)

    async def tell(client: AsyncClient, meant: Sequence[str]) -> ExitCode:
        await client.quiet_workers(*meant, reason=reason, by=who(by))
        there = await _heard(client, meant, is_quiet=True, wait_s=wait)
        _say(options, meant, there)
        is_idle = all(worker.is_quiet and not worker.in_flight for worker in there.values())
        return ExitCode.OK if is_idle or not wait else ExitCode.TIMEOUT

    return _run(options, names, host, "quiet", tell, yes=yes)


@click.command("resume", cls=AgentqCommand, exits=(ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE))
@_naming
@pass_options
def resume(options: Options, *, names: tuple[str, ...], host: str | None, everybody: bool, yes: bool) -> int:
    """Let quiet workers take work again.

    \b
    Example:
      $ agentq workers resume --all --yes
    """
    _check(names, host, everybody)

    async def tell(client: AsyncClient, meant: Sequence[str]) -> ExitCode:
        await client.resume_workers(*meant)
        _say(options, meant, await _heard(client, meant, is_quiet=False, wait_s=0.0))
        return ExitCode.OK

    return _run(options, names, host, "resume", tell, yes=yes)


def _check(names: tuple[str, ...], host: str | None, everybody: bool) -> None:
    if bool(names) + (host is not None) + everybody != 1:
        raise click.UsageError("name one of: WORKER..., --host HOST, --all")


def _run(
    options: Options, names: tuple[str, ...], host: str | None, verb: str, tell: Callable[..., Any], *, yes: bool
) -> ExitCode:
    import asyncio

    from agentq.cli._output import stderr

    async def main() -> ExitCode:
        async with options.connected() as client:
            meant: Sequence[str] = names
            if not names:
                there = await client.insight.workers()
                meant = [worker.name for worker in there if worker.is_agentq and host in (None, worker.host)]
                if not meant:
                    stderr().line("no such workers are there")
                    return ExitCode.OK
                _confirm(options, f"{verb} {len(meant)} worker{'' if len(meant) == 1 else 's'}", yes=yes)
            done: ExitCode = await tell(client, meant)
            return done

    return asyncio.run(main())


def _confirm(options: Options, what: str, *, yes: bool) -> None:
    if yes:
        return
    if options.json or not sys.stdin.isatty():
        raise click.UsageError(f"that would {what}; --yes says so")
    click.confirm(f"{what}?", abort=True, err=True)


async def _heard(client: AsyncClient, names: Sequence[str], *, is_quiet: bool, wait_s: float) -> dict[str, WorkerInfo]:
    """The workers that are there, when all have heard it, and with `wait_s` when they are idle, or it is too late."""
    import asyncio

    until = time.monotonic() + max(wait_s, _HEARD_WITHIN_S)
    while True:
        there = {worker.name: worker for worker in await client.insight.workers() if worker.name in names}
        if all(worker.is_quiet is is_quiet and not (wait_s and worker.in_flight) for worker in there.values()):
            return there
        if time.monotonic() > until:
            return there
        await asyncio.sleep(_LOOK_EVERY_S)


def _say(options: Options, names: Sequence[str], there: dict[str, WorkerInfo]) -> None:
    from agentq.cli._output import count, one_line, stdout

    out = stdout()
    if options.json:
        out.document({"workers": [worker_document(worker) for worker in there.values()]})
        return
    for name in names:
        worker = there.get(name)
        state = "gone" if worker is None else _state(worker)
        left = (
            "" if worker is None or not worker.is_quiet else f": {count(worker.in_flight or 0, 'iteration')} in flight"
        )
        out.line(f"{one_line(name)} {out.style(state, _COLOURS.get(state, 'green'))}{left}")


def worker_document(worker: WorkerInfo) -> dict[str, Any]:
    """A worker as JSON; `kind` is agentq or rq, and what a stock rq worker does not say is null."""
    return {"kind": "agentq" if worker.is_agentq else "rq", **asdict(worker)}


def _state(worker: WorkerInfo) -> str:
    return "silent" if worker.is_silent else "quiet" if worker.is_quiet else worker.state


def _cells(worker: WorkerInfo) -> list[str]:
    from agentq.cli._output import age, one_line

    in_flight = "-" if worker.in_flight is None else f"{worker.in_flight}/{worker.concurrency}"
    agents = "stock rq worker" if worker.agents is None else ", ".join(worker.agents)
    cells = [
        worker.name,
        _state(worker),
        in_flight,
        ",".join(worker.queues),
        age(time.time() * 1000 - worker.started_ms) if worker.started_ms else "-",
        str(worker.done),
        str(worker.failed),
        worker.version or "-",
        worker.host or "-",
        str(worker.pid or "-"),
        agents,
    ]
    return [one_line(cell) for cell in cells]
