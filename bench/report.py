"""From samples to tables: medians, ranges, ratios, and docs/performance.md."""

from __future__ import annotations

import os
import platform
import textwrap
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.measure import Figure, Sample, Workload

_WIDTH = 118
_PACKAGES = ("agentq-redis", "redis", "hiredis", "rq", "pydantic")


@dataclass(frozen=True, slots=True)
class Result:
    """A workload with the samples of every peer, by its name."""

    workload: Workload
    runs: int
    samples: Mapping[str, Sequence[Sample]]

    def figure(self, peer: str, figure: Figure) -> list[float]:
        return [sample[figure.name] for sample in self.samples[peer]]


def table(result: Result) -> str:
    """A Markdown table: one row per figure, one column per peer, ratios to the first peer."""
    first, *others = (peer.name for peer in result.workload.peers)
    header = ["", first, *(cell for other in others for cell in (other, "ratio"))]
    rows = [header]
    for figure in result.workload.figures:
        ours = result.figure(first, figure)
        row = [figure.name, _cell(ours, figure)]
        for other in others:
            theirs = result.figure(other, figure)
            row += [_cell(theirs, figure), f"{median(ours) / median(theirs):.2f}"]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [_row(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    return "\n".join(lines)


def sample_line(sample: Sample, figures: Sequence[Figure]) -> str:
    """One sample on one line."""
    return " · ".join(f"{sample[figure.name]:,.{figure.digits}f} {figure.name}" for figure in figures)


def setting(result: Result) -> str:
    """How it was measured, as a Markdown list."""
    rounds = len(next(iter(result.samples.values())))
    lines = [f"- {peer.name}: {peer.settings}" for peer in result.workload.peers]
    lines.append(
        f"- {result.runs} runs a round, {rounds} rounds, the peers in turn, each on a private redis-server without "
        "persistence on the same machine; medians, with the lowest and the highest round"
    )
    return "\n".join(lines)


def versions(redis_version: str) -> str:
    """What was measured on what, on one line."""
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"{packages}, redis-server {redis_version}, Python {platform.python_version()}, {machine}"


def page(results: Sequence[Result], *, redis_version: str, command: str) -> str:
    """docs/performance.md."""
    parts = [
        "# Performance",
        (
            "These figures are measured, not promised. They depend on the machine, so read the ratios: agentq's figure "
            "divided by the peer's, both from the same run, in which they were measured in turn. To measure again:"
        ),
        f"```console\n$ {command}\n```",
    ]
    for result in results:
        parts += [f"## {result.workload.question}", result.workload.description, table(result), setting(result)]
    parts += ["## Versions", f"{versions(redis_version)}."]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _wrapped(part: str) -> str:
    """Prose and lists in lines of ordinary length; tables, headings and code as they are."""
    if part.startswith(("|", "#", "```")):
        return part
    return "\n".join(
        textwrap.fill(line, _WIDTH, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)
        for line in part.splitlines()
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _cell(values: Sequence[float], figure: Figure) -> str:
    middle, low, high = (f"{value:,.{figure.digits}f}" for value in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"
