"""From samples to tables: medians, ranges, ratios, goals, and docs/performance.md."""

from __future__ import annotations

import os
import platform
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

from bench.measure import Sense

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measure import Figure, Goal, Sample, Workload

_WIDTH = 118
_PACKAGES = ("agentq-redis", "redis", "hiredis", "rq", "pydantic")


@dataclass(slots=True)
class Result:
    """A workload with the samples of every case and peer, and what a peer could not do."""

    workload: Workload
    peers: tuple[str, ...]
    rounds: int
    runs: dict[str, int] = field(default_factory=dict)  # by case, in order: what was measured
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    unable: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, case: str, peer: str, sample: Sample) -> None:
        self.samples[case, peer].append(sample)

    def values(self, case: str, peer: str, figure: Figure) -> list[float]:
        """One figure of every round. Empty where the peer has none."""
        return [sample[figure.name] for sample in self.samples.get((case, peer), []) if figure.name in sample]

    def middle(self, case: str, peer: str, figure: Figure) -> float | None:
        values = self.values(case, peer, figure)
        return median(values) if values else None


def tables(result: Result) -> str:
    """Markdown. One case: a row per figure. Several cases: a table per figure, with a row per case."""
    cases, figures = list(result.runs), result.workload.figures
    if len(cases) == 1:
        return _table(result, "", [(figure.name, cases[0], figure) for figure in figures])
    return "\n\n".join(_table(result, figure.name, [(case, case, figure) for case in cases]) for figure in figures)


def _table(result: Result, title: str, rows: Sequence[tuple[str, str, Figure]]) -> str:
    """One column per peer, and beside it how many times the peer's figure the first peer's is."""
    first, *others = result.peers
    table = [[title, first, *(cell for other in others for cell in (other, "ratio"))]]
    for name, case, figure in rows:
        row = [name, _cell(result, case, first, figure)]
        ours = result.middle(case, first, figure)
        for other in others:
            theirs = result.middle(case, other, figure)
            ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else ""
            row += [_cell(result, case, other, figure), ratio]
        table.append(row)
    return _markdown(table)


def goals(results: Sequence[Result]) -> str:
    """A Markdown table of what was promised, and whether this run shows it."""
    table = [["what", "must show", "measured", ""]]
    for result in results:
        for goal in result.workload.goals:
            case = goal.case or next(iter(result.runs), "")
            value = _reached(result, case, goal)
            if value is None:
                continue
            what = f"{result.workload.name}: {goal.figure.name}" + (f", {goal.case}" if goal.case else "")
            digits = 2 if goal.against or goal.against_case else goal.figure.digits
            must = f"{goal.sense} {_short(goal.limit)}"
            if goal.against:
                must += f" x {goal.against[0]}" if len(goal.against) == 1 else " x the best bare chain"
            elif goal.against_case:
                must += f" x {goal.against_case}"
            table.append([what, must, f"{value:,.{digits}f}", "met" if goal.met(value) else "**not met**"])
    return _markdown(table)


def _reached(result: Result, case: str, goal: Goal) -> float | None:
    """The figure, or its ratio to what it is held against: the best of the peers. None where that was not measured."""
    ours = result.middle(case, result.peers[0], goal.figure)
    if ours is not None and goal.against_case:
        before = result.middle(goal.against_case, result.peers[0], goal.figure)
        return ours / before if before else None
    if ours is None or not goal.against:
        return ours
    measured = (result.middle(case, peer, goal.figure) for peer in goal.against)
    theirs = [value for value in measured if value is not None]
    if not theirs:
        return None
    return ours / (max(theirs) if goal.sense is Sense.AT_LEAST else min(theirs))


def sample_line(sample: Sample, figures: Sequence[Figure]) -> str:
    """One sample on one line."""
    known = (figure for figure in figures if figure.name in sample)
    return " · ".join(f"{sample[figure.name]:,.{figure.digits}f} {figure.name}" for figure in known)


def setting(result: Result) -> str:
    """How it was measured, as a Markdown list."""
    workload = result.workload
    lines = [f"- {peer.name}: {peer.settings}" for peer in workload.peers if peer.name in result.peers]
    for (case, name), reason in result.unable.items():
        lines.append(f"- {name}{f', {case}' if case else ''}: {reason}")
    amounts = ", ".join(f"{runs:,}{f' ({case})' if case else ''}" for case, runs in result.runs.items())
    rounds = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
    lines.append(
        f"- runs a round: {amounts}; {rounds}, the peers in turn; medians, with the lowest and the highest round"
    )
    lines += [f"- {note}" for note in workload.notes]
    return "\n".join(lines)


def versions(redis_version: str) -> str:
    """What was measured on what, on one line."""
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"{packages}, redis-server {redis_version}, Python {platform.python_version()}, {machine}"


def page(results: Sequence[Result], *, redis_version: str, command: str, plots: Path) -> str:
    """docs/performance.md. `plots` is the folder that may hold a plot of a workload, beside the page."""
    parts = [
        "# Performance",
        (
            "These figures are measured, not promised. They depend on the machine, so read the ratios: agentq's figure "
            "divided by the peer's, both from the same run, in which they were measured in turn, each on a private "
            "redis-server without persistence on the same machine. To measure again:"
        ),
        f"```console\n$ {command}\n```",
        "## What it must show",
        "What the design asks for, and what this run measured.",
        goals(results),
    ]
    for result in results:
        workload = result.workload
        parts += [f"## {workload.question}", workload.description]
        if (plots / f"{workload.name}.svg").exists():
            parts.append(f"![{workload.question}]({plots.name}/{workload.name}.svg)")
        parts += [tables(result), setting(result)]
    parts += ["## Versions", f"{versions(redis_version)}. The peers' versions stand with their settings."]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _wrapped(part: str) -> str:
    """Prose and lists in lines of ordinary length; tables, plots, headings and code as they are."""
    if part.startswith(("|", "#", "```", "![")):
        return part
    return "\n".join(
        textwrap.fill(line, _WIDTH, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)
        for line in part.splitlines()
    )


def _markdown(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [_row(row, widths) for row in table]
    lines.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _cell(result: Result, case: str, peer: str, figure: Figure) -> str:
    if (case, peer) in result.unable:
        return "cannot"
    values = result.values(case, peer, figure)
    if not values:
        return ""
    middle, low, high = (f"{value:,.{figure.digits}f}" for value in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:g}"
