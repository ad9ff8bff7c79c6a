"""`agentq doctor`: is the ground sound? Looks at this machine, the app, Redis and the workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.cli._output import Output
    from agentq.insight.checks import Check

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "unknown": ("?", "dim")}


@dataclass
class _Findings:
    """The checks under their headings, and whether Redis could be asked."""

    sections: dict[str, list[Check]] = field(default_factory=dict)
    is_redis_away: bool = False

    @property
    def checks(self) -> list[Check]:
        return [check for checks in self.sections.values() for check in checks]


@click.command("doctor", cls=AgentqCommand, exits=(ExitCode.FAILED, ExitCode.UNAVAILABLE))
@pass_options
def command(options: Options) -> int:
    """Look whether everything is as agentq needs it, and say how to mend what is not. Changes nothing.

    Exit code 0: well, or only warnings; 1: something must be mended; 69: Redis is away.
    --json prints {"ok", "checks": [{"name", "level", "text", "fix"}]}; a level is ok, warning, failed or unknown.
    """
    import asyncio

    from agentq.cli._output import stdout

    found = _Findings()
    settings = options.settings()
    found.sections["this machine"] = _of_this_machine()
    found.sections["the app"] = _of_the_app(options, settings.app)
    asyncio.run(_ask_redis(options, found))
    code = _code(found)
    out = stdout()
    if options.json:
        out.document({"ok": not code, "checks": [asdict(check) for check in found.checks]})
        return code
    for title, checks in found.sections.items():
        out.line(out.style(title, "bold"))
        for check in checks:
            _print(check, out)
    out.line(_summary(found.checks))
    return code


def _of_this_machine() -> list[Check]:
    from agentq.cli._machine import check_installed, check_python

    return [check_python(), *check_installed()]


def _of_the_app(options: Options, spec: str) -> list[Check]:
    from agentq.cli._machine import check_app

    return list(check_app(spec, is_named=options.names_app))


async def _ask_redis(options: Options, found: _Findings) -> None:
    """Ask Redis about itself and about the workers. That it is away is one finding; the others stand."""
    from redis.exceptions import NoPermissionError, ResponseError

    from agentq.cli._errors import describe, fix_of
    from agentq.cli._machine import own_version
    from agentq.errors import InvalidInput, StoreUnavailable
    from agentq.insight.checks import check_server, check_webhooks, check_workers, failed, unknown

    async with options.connected() as client:
        insight = client.insight
        where = f"Redis at {insight.where}"
        try:
            found.sections[where] = list(check_server(await insight.server()))
            stats = await insight.stats()
            found.sections["workers"] = [
                *check_workers(
                    stats.workers,
                    swept_ms=stats.swept_ms,
                    now_ms=stats.now_ms,
                    version=own_version(),
                    due=stats.due,
                ),
                *check_webhooks(stats.webhooks, now_ms=stats.now_ms),
            ]
        except StoreUnavailable as error:
            found.is_redis_away = True
            found.sections.setdefault(where, []).append(failed("redis", str(error), fix_of(error)))
        except NoPermissionError as error:
            found.sections["workers"] = [unknown("workers", f"cannot tell: {describe(error)[1]}")]
        except (ResponseError, InvalidInput) as error:  # a database that is not there, for one
            found.sections.setdefault(where, []).append(failed("redis", describe(error)[1], "correct REDIS_URL"))


def _code(found: _Findings) -> ExitCode:

    if found.is_redis_away:
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED if any(check.level == "failed" for check in found.checks) else ExitCode.OK


def _print(check: Check, out: Output) -> None:
    from agentq.cli._output import one_line
    from agentq.cli._table import paragraph

    mark, colour = _MARKS[check.level]
    first, *rest = paragraph(out, one_line(check.text), first=f"  {mark} ", rest="    ")
    out.line(f"  {out.style(mark, colour)}{first[3:]}")
    for line in rest:
        out.line(line)
    if check.fix:
        for line in paragraph(out, one_line(check.fix), first="    → ", rest="      "):
            out.line(out.style(line, colour))


def _summary(checks: Sequence[Check]) -> str:
    from agentq.cli._output import count

    levels: Mapping[str, int] = {level: sum(check.level == level for check in checks) for level in _MARKS}
    if levels["failed"]:
        return f"{count(levels['failed'], 'thing')} to mend, {count(levels['warning'], 'warning')}"
    return count(levels["warning"], "warning") if levels["warning"] else "all is well"
