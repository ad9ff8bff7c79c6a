"""What `agentq approve` and `agentq deny` share: the calls that are meant, and one decision on each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete, _inbox
from agentq.cli._who import WHO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentq.cli._each import Done
    from agentq.cli._errors import ExitCode
    from agentq.cli._group import Options
    from agentq.client import AsyncClient
    from agentq.deciding import Waiting
    from agentq.runs import Status

    Decide = Callable[[AsyncClient, str, str | None], Awaitable[Status]]

# More are counted, and not listed, before somebody is asked.
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Meant:
    """Which calls are meant: of one run, or all that the options leave."""

    run: str | None
    calls: tuple[str, ...]
    wanted: _inbox.Wanted
    everything: bool
    yes: bool

    def check(self) -> None:
        """Refuse what names nothing, or both a run and conditions."""
        if self.run is not None and self.wanted.narrows:
            raise click.UsageError("name a run, or choose calls by --agent, --tool, --session, --user; not both")
        if self.run is None and not (self.wanted.narrows or self.everything):
            raise click.UsageError("name a run, or choose calls by --all, --agent, --tool, --session, --user")
        if self.calls and self.everything:
            raise click.UsageError("name calls, or say --all; not both")

    @property
    def is_bulk(self) -> bool:
        return self.run is None

    async def find(self, options: Options, client: AsyncClient, verb: str) -> list[tuple[str, str | None]]:
        """Run and call of each. Asks, on a terminal, before many are decided; raises click's errors."""
        if self.run is not None:
            run_id, calls = _inbox.split_call(self.run, self.calls)
            return [(run_id, call) for call in calls or await self._of_run(client, run_id)]
        found = await self.wanted.read(client, "approval")
        self._confirm(options, verb, found)
        return [(each.run.run_id, each.question.call_id) for each in found]

    async def _of_run(self, client: AsyncClient, run_id: str) -> Sequence[str | None]:
        """The calls of a run that wait; None stands for the one that a client finds, or says why there is none."""
        questions = [each for each in (await client.read(run_id)).questions if each.kind == "approval"]
        if len(questions) > 1 and not self.everything:
            listed = ", ".join(f"{each.call_id[len(run_id) + 1 :]} {_inbox.what(each)}" for each in questions)
            raise click.UsageError(
                f"run {run_id} has {len(questions)} calls that wait; name some, or say --all: {listed}"
            )
        return [each.call_id for each in questions] or [None]

    def _confirm(self, options: Options, verb: str, found: Sequence[Waiting]) -> None:
        if self.yes or not found:
            return
        what = f"{verb} {len(found)} call{'' if len(found) == 1 else 's'}"
        if options.json or not sys.stdin.isatty():
            raise click.UsageError(f"that would {what}; --yes says so")
        from agentq.cli._output import clip, stderr

        err = stderr()
        for each in found[:_LISTED]:
            err.line(clip(f"  {each.question.call_id}  {_inbox.what(each.question)}", err.width))
        if len(found) > _LISTED:
            err.line(f"  and {len(found) - _LISTED} more")
        click.confirm(f"{what}?", abort=True, err=True)


def deciding(function: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options that say which calls are meant, and who decides."""
    function = _inbox.narrowing(function)
    for option in (
        WHO,
        click.option("--yes", is_flag=True, help="Do not ask before it is done to the calls that were chosen."),
        click.option("--all", "everything", is_flag=True, help="All calls that wait: of RUN, or of all runs."),
        click.argument("calls", metavar="[CALL...]", nargs=-1),
        click.argument("run", metavar="[RUN]", required=False, shell_complete=_complete.waiting),
    ):
        function = option(function)
    return function


def decide(options: Options, meant: Meant, verb: str, word: str, by: str, act: Decide) -> ExitCode:
    """Decide on each call that is meant, and say so. Returns the worst exit code."""
    import asyncio

    from agentq.cli._each import Done, on_all
    from agentq.cli._output import one_line, stderr, stdout

    meant.check()
    out = stdout()

    async def main() -> ExitCode:
        async with options.connected() as client:

            async def one(thing: tuple[str, str | None]) -> Done:
                run_id, call_id = thing
                status = await _decided(client, run_id, call_id, act)
                named = call_id or run_id
                line = f"{named} {out.style(word, 'yellow')} as {one_line(by)}: the run is {status}"
                document = {"run_id": run_id, "call_id": call_id, "decision": word, "by": by, "status": str(status)}
                return Done(line, document)

            found = await meant.find(options, client, verb)
            if not found and not options.json:
                stderr().line("no call waits for that")
            return await on_all(options, found, one, key="calls")

    return asyncio.run(main())


async def _decided(client: AsyncClient, run_id: str, call_id: str | None, act: Decide) -> Status:
    """Decide. Where it is too late, the error says who was faster."""
    from agentq.errors import AlreadyDecided, NotWaiting

    try:
        return await act(client, run_id, call_id)
    except (AlreadyDecided, NotWaiting) as error:
        if said := await said_before(client, run_id, call_id):
            error.add_note(said)
        raise


async def said_before(client: AsyncClient, run_id: str, call_id: str | None) -> str:
    """What was decided on a call, by whom and when, or on the last one; empty where nothing was."""
    import contextlib

    from agentq.cli._questions import said_when
    from agentq.events.model import RunAnswered

    last = ""
    async with contextlib.aclosing(client.events(run_id, live=False, kinds=["run.answered"])) as events:
        async for event in events:
            if isinstance(event, RunAnswered) and call_id in (None, event.call_id):
                last = said_when(event)
    return last
