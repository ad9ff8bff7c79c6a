"""`agentq import`: read back what `agentq export` wrote."""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.archive.importing import Imported


@click.command("import", cls=AgentqCommand, exits=(ExitCode.CONFLICT, ExitCode.UNAVAILABLE))
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--ttl", metavar="SECONDS", type=click.FloatRange(min=0.001), help="Keep the runs so long from now on.")
@pass_options
def command(options: Options, file: str, ttl: float | None) -> int:
    """Read back what `agentq export` wrote, from FILE or stdin.

    Runs and sessions that are here already stay as they are, so doing it again is harmless. What comes in is kept from
    now on for as long as if it had just ended.
    """
    import asyncio

    if file == "-" and sys.stdin.isatty():
        raise click.UsageError("name the file that `agentq export` wrote, or pipe it in")
    tally = _Tally(options)
    try:
        with _source(file) as source:
            asyncio.run(_import(options, source, ttl, tally))
    except BaseException:
        if not tally.is_empty:
            tally.close()
        raise
    tally.close()
    if tally.broken_off:
        return ExitCode.FAILED
    return ExitCode.CONFLICT if tally.conflicts else ExitCode.OK


async def _import(options: Options, source: BinaryIO, ttl: float | None, tally: _Tally) -> None:
    from agentq.archive.importing import import_archive, lines_of
    from agentq.archive.reading import ArchiveReader
    from agentq.archive.restoring import Restorer
    from agentq.archive.terms import Terms
    from agentq.settings import times_to_live
    from agentq.wiring import redis_parts

    settings = options.settings()
    ttl_ms = times_to_live(ttl, field="--ttl").get("completed")
    parts = redis_parts(settings)
    restorer = Restorer(parts.store.pipeline, parts.store.keys)
    reader = ArchiveReader(parts.store.pipeline, parts.store.keys)
    try:
        terms = Terms(settings, ttl_ms, await parts.store.known_agents())
        async with contextlib.aclosing(import_archive(restorer, reader, lines_of(source), terms)) as units:
            async for unit in units:
                tally.take(unit)
    finally:
        await parts.aclose()


class _Tally:
    """Counts what became of the units, and names those that did not come in."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._new = {"run": 0, "session": 0}
        self._known = {"run": 0, "session": 0}
        self.conflicts: list[Imported] = []
        self.broken_off: list[Imported] = []

    def take(self, unit: Imported) -> None:
        from agentq.cli._output import one_line, remark

        match unit.outcome:
            case "new":
                self._new[unit.kind] += 1
            case "known":
                self._known[unit.kind] += 1
            case "conflict":
                self.conflicts.append(unit)
                remark("conflict", f"conflict: {one_line(unit.reason)}", as_json=self._options.json)
            case "broken off":
                self.broken_off.append(unit)
                reason = f"left out: {unit.kind} {unit.name} was not exported whole: {one_line(unit.reason)}"
                remark("left_out", reason, as_json=self._options.json)

    @property
    def is_empty(self) -> bool:
        return not (any(self._new.values()) or any(self._known.values()))

    def close(self) -> None:
        """Say what has come in."""
        from agentq.cli._output import stdout

        if self._options.json:
            stdout().document(
                {
                    "imported": {f"{kind}s": number for kind, number in self._new.items()},
                    "known": {f"{kind}s": number for kind, number in self._known.items()},
                    "conflicts": [_document(unit) for unit in self.conflicts],
                    "left_out": [_document(unit) for unit in self.broken_off],
                }
            )
            return
        known = f"; {_figures(self._known)} were here already" if any(self._known.values()) else ""
        stdout().line(f"imported {_figures(self._new)}{known}")


def _document(unit: Imported) -> dict[str, str]:
    return {"type": unit.kind, "id": unit.name, "reason": unit.reason}


def _figures(counts: dict[str, int]) -> str:
    from agentq.cli._output import count

    return f"{count(counts['run'], 'run')} and {count(counts['session'], 'session')}"


@contextlib.contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    """The lines of FILE, unpacked if it is a .gz, or stdin."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(file, "rb") as raw:  # noqa: PTH123 - a name, which may be a pipe
            if not file.endswith(".gz"):
                yield raw
                return
            with gzip.open(raw, "rb") as unpacked:
                yield cast("BinaryIO", unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise click.UsageError(f"cannot unpack {file}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror or error}") from error
