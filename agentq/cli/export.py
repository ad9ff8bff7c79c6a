"""`agentq export`: runs that have ended, and sessions, as NDJSON."""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode, worst
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.runs import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agentq.archive.exporting import LeftOut, Selection

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command(
    "export",
    cls=AgentqCommand,
    exits=(ExitCode.FAILED, ExitCode.NOT_FOUND, ExitCode.CONFLICT, ExitCode.UNAVAILABLE),
)
@click.argument("runs", metavar="[RUN]...", nargs=-1, shell_complete=_complete.runs)
@click.option("--session", metavar="ID", shell_complete=_complete.sessions, help="Only this session and its runs.")
@click.option("--agent", metavar="AGENT", shell_complete=_complete.agents, help="Only runs of this agent.")
@click.option("--status", type=click.Choice([str(status) for status in sorted(FINAL)]), help="Only runs that ended so.")
@click.option("--user", metavar="ID", help="Only runs and sessions of this user.")
@click.option("--since", metavar="TIME", type=_TIME, help="Only runs from then on: 2026-01-31, 2026-01-31T18:00.")
@click.option("--until", metavar="TIME", type=_TIME, help="Only runs from before then.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE when all is there; .gz compresses it.")
@pass_options
def command(options: Options, /, runs: tuple[str, ...], output: str | None, **conditions: Any) -> int:
    """Write runs that have ended, with their sessions and files, as NDJSON for `agentq import`.

    Without arguments, all of them. Runs that are alive are left out: imported elsewhere, they would run twice.
    """
    import asyncio

    view = _View(options, names_runs=bool(runs))
    selection = _selection(runs, conditions)
    with _destination(output) as file:
        asyncio.run(_export(options, selection, file, view))
    view.close(output)
    return worst([ExitCode.OK, *view.codes])


def _selection(runs: tuple[str, ...], conditions: dict[str, Any]) -> Selection:
    from agentq.archive.exporting import Selection
    from agentq.cli._watch import checked_run_id
    from agentq.runs import Status

    given = [name for name, value in conditions.items() if value is not None]
    if runs and given:
        raise click.UsageError(f"name runs, or say which ones with --{given[0]}; not both")
    status, since, until = (conditions[name] for name in ("status", "since", "until"))
    return Selection(
        run_ids=tuple(checked_run_id(run) for run in runs),
        status=None if status is None else Status(status),
        agent=conditions["agent"],
        session_id=conditions["session"],
        user_id=conditions["user"],
        since_ms=0 if since is None else _milliseconds(since),
        until_ms=None if until is None else _milliseconds(until),
    )


def _milliseconds(local: datetime) -> int:
    return max(round(local.timestamp() * 1000), 0)


async def _export(options: Options, selection: Selection, file: BinaryIO, view: _View) -> None:
    from agentq.archive.exporting import export_archive
    from agentq.archive.reading import ArchiveReader
    from agentq.wiring import redis_parts

    parts = redis_parts(options.settings())
    reader = ArchiveReader(parts.store.pipeline, parts.store.keys)
    try:
        async with contextlib.aclosing(export_archive(parts.store, reader, selection)) as items:
            async for item in items:
                if isinstance(item, bytes):
                    file.write(item + b"\n")
                    view.count(item)
                else:
                    view.leave_out(item)
        file.flush()
    finally:
        await parts.aclose()


class _View:
    """What is said on stderr, and the exit code that it amounts to."""

    def __init__(self, options: Options, *, names_runs: bool) -> None:
        self._options = options
        self._names_runs = names_runs
        self._alive = self._runs = self._sessions = 0
        self.codes: set[ExitCode] = set()

    def count(self, line: bytes) -> None:
        self._runs += line.startswith(b'{"type":"run"')
        self._sessions += line.startswith(b'{"type":"session"')

    def leave_out(self, left: LeftOut) -> None:
        from agentq.cli._output import one_line, remark

        codes = {"alive": ExitCode.CONFLICT, "not found": ExitCode.NOT_FOUND, "broken": ExitCode.FAILED}
        if left.why == "alive" and not self._names_runs:
            self._alive += 1
            return
        self.codes.add(codes[left.why])
        remark("left_out", f"left out: {one_line(left.reason)}", as_json=self._options.json)

    def close(self, output: str | None) -> None:
        from agentq.cli._output import count, remark

        if self._alive:
            have = "has" if self._alive == 1 else "have"
            message = f"left out: {count(self._alive, 'run')} that {have} not ended"
            remark("left_out", message, as_json=self._options.json)
        if output is not None:
            done = f"{count(self._runs, 'run')} and {count(self._sessions, 'session')} in {output}"
            remark("exported", done, as_json=self._options.json, style="dim")


@contextlib.contextmanager
def _destination(output: str | None) -> Iterator[BinaryIO]:
    """Where the lines go: stdout, or a file that has its name only when it is whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.is_dir():
        raise click.UsageError(f"cannot write {output}: it is a directory")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as raw:
            if path.suffix == ".gz":
                with gzip.open(raw, "wb") as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
