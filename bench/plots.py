"""The plots of docs/performance.md: bars where a workload has one case, curves where it has sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.report import Result

# Readable on a white page and on a dark one; agentq's colour first.
_COLOURS = ("#d9480f", "#4c6ef5", "#2b8a3e", "#9c36b5", "#0c8599", "#868e96", "#e67700", "#c2255c")
_GREY = "#495057"


def draw(results: Sequence[Result], folder: Path) -> None:
    """Write `<workload>.svg` for each result."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context():
        mpl.rcParams["svg.hashsalt"] = "agentq"  # the same figures give the same file
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
        for name in ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
            mpl.rcParams[name] = _GREY
        for result in results:
            sized = [case for case in result.workload.cases if case.name in result.runs and case.size]
            height = 3.4 if len(sized) > 1 else 0.7 + 0.38 * len(result.peers) * max(len(result.runs), 1)
            figure, axes = plt.subplots(figsize=(7.6, max(height, 1.4)), layout="constrained")
            if len(sized) > 1:
                _curves(axes, result)
            else:
                _bars(axes, result)
            figure.savefig(folder / f"{result.workload.name}.svg", facecolor="white", metadata={"Date": None})
            plt.close(figure)


def _bars(axes: Axes, result: Result) -> None:
    """The first figure of every case and peer, the range of its rounds as a whisker."""
    figure = result.workload.figures[0]
    names, middles, lows, highs, colours = [], [], [], [], []
    for case in result.runs:
        for peer, colour in zip(result.peers, _COLOURS, strict=False):
            values = result.values(case, peer, figure)
            middle = result.middle(case, peer, figure)
            if middle is None:
                continue
            names.append(" · ".join(filter(None, (peer if len(result.peers) > 1 or not case else "", case))))
            middles.append(middle)
            lows.append(middle - min(values))
            highs.append(max(values) - middle)
            colours.append(colour)
    places = range(len(names))
    axes.barh(places, middles, xerr=(lows, highs), color=colours, height=0.7, error_kw={"ecolor": "#343a40", "lw": 1})
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel(figure.name)
    axes.margins(x=0.12)
    for place, middle, high in zip(places, middles, highs, strict=True):
        axes.annotate(
            f"{middle:,.{figure.digits}f}", (middle + high, place), (5, 0), textcoords="offset points", va="center"
        )


def _curves(axes: Axes, result: Result) -> None:
    """The first figure over the size of the cases, one curve per peer."""
    figure = result.workload.figures[0]
    cases = [case for case in result.workload.cases if case.name in result.runs]
    for peer, colour in zip(result.peers, _COLOURS, strict=False):
        points = [
            (case.size, middle) for case in cases if (middle := result.middle(case.name, peer, figure)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=peer)
    axes.set_xscale("log")
    axes.set_xticks([case.size for case in cases], [f"{case.size:,}" for case in cases])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(result.workload.size_name)
    axes.set_ylabel(figure.name)
    if len(result.peers) > 1:
        axes.legend(frameon=False)
