"""Which runs a command is about that takes many: those that are named, or those that options choose."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from agentq.cli import _complete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.cli._group import Options
    from agentq.client import AsyncClient

_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PAGE = 1000


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A length of time such as `30s`, `15m`, `2h` or `7d`, in seconds."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time such as 30s, 15m, 2h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the options say."""

    runs: tuple[str, ...]
    status: str | None
    agent: str | None
    session: str | None
    since_s: float | None
    yes: bool

    def check(self) -> None:
        """Refuse what names nothing, or both runs and conditions."""
        has_conditions = any(each is not None for each in (self.status, self.agent, self.session, self.since_s))
        if self.runs and has_conditions:
            raise click.UsageError("name runs, or choose them by --status, --agent, --session, --since; not both")
        if not self.runs and not has_conditions:
            raise click.UsageError("name runs, or choose them by --status, --agent, --session, --since")

    async def chosen(self, options: Options, client: AsyncClient, verb: str, statuses: Sequence[str]) -> list[str]:
        """The ids of the runs, newest first. Asks, on a terminal, before many are touched; raises click's errors."""
        if self.runs:
            return list(self.runs)
        oldest_ms = 0.0 if self.since_s is None else (time.time() - self.since_s) * 1000
        found: list[str] = []
        for status in (self.status,) if self.status else statuses:
            before = None
            while True:
                page = await client.list(
                    status=status, agent=self.agent, session_id=self.session, before=before, limit=_PAGE
                )
                found += [run.run_id for run in page if run.created_ms >= oldest_ms]
                if len(page) < _PAGE or page[-1].created_ms < oldest_ms:
                    break
                before = page[-1].run_id
        self._confirm(options, verb, len(found))
        return sorted(found, reverse=True)

    def _confirm(self, options: Options, verb: str, number: int) -> None:
        if self.yes or not number:
            return
        what = f"{verb} {number} run{'' if number == 1 else 's'}"
        if options.json or not sys.stdin.isatty():
            raise click.UsageError(f"that would {what}; --yes says so")
        click.confirm(f"{what}?", abort=True, err=True)


def selecting(*statuses: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that choose runs; `statuses` are those that may be chosen."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--yes", is_flag=True, help="Do not ask before it is done to the runs that were chosen."),
            click.option(
                "--since", "since_s", metavar="AGE", callback=_seconds, help="Runs younger than 30s, 15m, 2h, 7d."
            ),
            click.option("--session", metavar="ID", shell_complete=_complete.sessions, help="Runs of this session."),
            click.option("--agent", metavar="NAME", shell_complete=_complete.agents, help="Runs of this agent."),
            click.option("--status", type=click.Choice(statuses), help="Runs with this status."),
            click.argument("runs", metavar="[RUN...]", nargs=-1, shell_complete=_complete.runs),
        ):
            function = option(function)
        return function

    return decorate
