"""Plays worlds from the command line: `python -m agentq.testing.simulation --seed 7 --steps 20000`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import click

from agentq.testing.simulation.faults import Figures
from agentq.testing.simulation.world import Played, play

_COMMAND = "python -m agentq.testing.simulation"


@click.command()
@click.option("--seed", default=1, show_default=True, help="The seed of the first world; the next ones count up.")
@click.option("--steps", default=20_000, show_default=True, help="Play worlds until so many steps are done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def main(seed: int, steps: int, as_json: bool) -> None:
    """Play simulated worlds, each to its end, and check the promises in every one.

    A step is one callback of a simulated process, or one call to the store. Exits with 1 after the first world in
    which a promise was broken, and prints the line that plays that world again.
    """
    total = Figures()
    began = time.perf_counter()
    first, failed = seed, None
    while total.steps < steps and failed is None:
        played = play(seed)
        total += played.figures
        failed = played if played.violations else None
        seed += 1
    took_s = time.perf_counter() - began
    click.echo(_document(first, total, failed, took_s) if as_json else _report(first, total, failed, took_s))
    sys.exit(1 if failed is not None else 0)


def _again(failed: Played) -> str:
    return f"{_COMMAND} --seed {failed.seed} --steps 1"


def _document(first: int, total: Figures, failed: Played | None, took_s: float) -> str:
    found = None
    if failed is not None:
        found = {"seed": failed.seed, "again": _again(failed), "violations": failed.violations, "trace": failed.trace}
    return json.dumps({"seed": first, "seconds": round(took_s, 1), **asdict(total), "failed": found})


def _report(first: int, total: Figures, failed: Played | None, took_s: float) -> str:
    per_second = total.steps / max(took_s, 1e-9)
    lines = [
        f"seeds {first} to {first + total.worlds - 1}, {total.virtual_s:,.0f} virtual seconds",
        f"  {total.steps:,} steps in {took_s:.1f} s ({per_second:,.0f}/s)",
        *(
            f"  {name.replace('_', ' '):<20} {value:>10,}"
            for name, value in asdict(total).items()
            if name not in ("steps", "virtual_s")
        ),
    ]
    if failed is not None:
        lines += ["", *failed.trace, "", *failed.violations, "", f"again: {_again(failed)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name=_COMMAND)
