"""Commands about several runs or calls: what is wrong with one does not keep the others; the worst exit code counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from agentq.cli._errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agentq.cli._group import Options
    from agentq.client import AsyncClient

T = TypeVar("T")

# So many at a time.
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one of them: a line for people, a document for programs."""

    line: str
    document: dict[str, Any] = field(default_factory=dict)
    code: ExitCode = ExitCode.OK


async def on_each(
    options: Options, client: AsyncClient, runs: Iterable[str], act: Callable[[str], Awaitable[Done]]
) -> ExitCode:
    """Do something to runs, each once, and say so in their order. Returns the worst exit code."""
    from agentq.cli._watch import checked_run_id

    return await on_all(options, runs, lambda run: act(checked_run_id(run)), key="runs")


async def on_all(options: Options, things: Iterable[T], act: Callable[[T], Awaitable[Done]], *, key: str) -> ExitCode:
    """The same for things of any kind; `key` names them in the JSON document."""
    from agentq.cli._errors import worst
    from agentq.cli._output import stdout

    wanted, done = list(dict.fromkeys(things)), []
    for start in range(0, len(wanted), _AT_ONCE):
        for each in await asyncio.gather(*[_one(act, thing) for thing in wanted[start : start + _AT_ONCE]]):
            _say(options, each)
            done.append(each)
    if options.json:
        stdout().document({key: [each.document for each in done if isinstance(each, Done)]})
    return worst([_code(each) for each in done])


async def _one(act: Callable[[T], Awaitable[Done]], thing: T) -> Done | Exception:
    from agentq import errors

    try:
        return await act(thing)
    except (errors.NotFound, errors.Conflict, errors.ResultTimeout) as error:
        return error


def _code(done: Done | Exception) -> ExitCode:
    from agentq.cli._errors import exit_code

    return done.code if isinstance(done, Done) else exit_code(done)


def _say(options: Options, done: Done | Exception) -> None:
    from agentq.cli._errors import report
    from agentq.cli._output import stderr, stdout

    if isinstance(done, Exception):
        report(done, stderr(), as_json=options.json, debug=options.debug)
    elif not options.json:
        stdout().line(done.line)
