"""`make chaos`: prove the promises under kills, lost replies and simulated faults, and write docs/reliability.md.

What has ended well is kept in .chaos/, so that a call that was stopped goes on where it was. A part that fails keeps
its folder, says where it is, and ends the command with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos import report
from tests.chaos.campaign import Plan, Slice
from tests.chaos.defaults import measure
from tests.chaos.proof import Proof
from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = ROOT / "docs" / "reliability.md"
_SLICE = Plan(kills=report.KILLS_A_SLICE)
_STEPS_AT_ONCE = 500_000
_REPLIES_AT_ONCE = 1_000


class Failed(Exception):
    """A promise does not hold; the folder with what there is to see stands in the message."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    proof = Proof(options.folder)
    until = time.monotonic() + options.minutes * 60
    try:
        for part in (_simulation, _campaign, _default_settings, _lost_replies):
            part(proof, options, until)
    except Failed as failure:
        _say(f"FAILED: {failure}")
        return 1
    except KeyboardInterrupt:
        _say("stopped; `make chaos` goes on from here")
    if options.write:
        PAGE.write_text(report.page(proof, options))
        _say(f"written: {PAGE.relative_to(ROOT)}")
    _say(report.summary(proof))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    def number(name: str, default: int) -> int:
        return int(os.environ.get(f"AGENTQ_CHAOS_{name}", default))

    parser = argparse.ArgumentParser(
        prog="tests/chaos/run.py", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("--kills", type=int, default=number("KILLS", 10_000), help="kill -9 of workers [10000]")
    parser.add_argument(
        "--steps", type=int, default=number("STEPS", 1_000_000), help="steps of the simulation [1000000]"
    )
    parser.add_argument(
        "--replies", type=int, default=number("REPLIES", 10_000), help="lost replies of each script [10000]"
    )
    parser.add_argument("--defaults", type=int, default=number("DEFAULTS", 50), help="kills at default settings [50]")
    parser.add_argument("--minutes", type=float, default=number("MINUTES", 120), help="stop after that long [120]")
    parser.add_argument("--folder", type=Path, default=ROOT / ".chaos", help="where to keep what was done [.chaos]")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave docs/reliability.md as it is")
    return parser.parse_args(arguments)


def _campaign(proof: Proof, options: argparse.Namespace, until: float) -> None:
    """Slices of real workers, until there are enough kills."""

    def done() -> int:
        return sum(figures["faults"].get("kill", 0) for figures in proof.of("campaign"))

    while done() < options.kills and time.monotonic() < until:
        seed = random.randrange(2**32)
        figures = _in_folder(f"campaign-{seed}", partial(_slice, seed))
        proof.add("campaign", figures)
        _say(
            f"campaign, seed {seed}: {figures['faults'].get('kill', 0)} kills, {figures['runs']} runs, "
            f"{figures['iterations']} iterations in {figures['seconds']:.0f} s; {done()} of {options.kills} kills"
        )


def _slice(seed: int, folder: Path) -> dict[str, Any]:
    return asyncio.run(Slice(folder, seed, _SLICE).run()).as_dict()


def _default_settings(proof: Proof, options: argparse.Namespace, until: float) -> None:
    """Kills with nothing set short."""
    done = sum(len(figures["killed"]) for figures in proof.of("defaults"))
    if done >= options.defaults or time.monotonic() > until:
        return
    left = options.defaults - done
    waits = _in_folder("defaults", lambda folder: asyncio.run(measure(folder, kills=left, terms=left)))
    proof.add("defaults", {"killed": waits.killed, "terminated": waits.terminated})
    _say(f"defaults: {left} kills, the last of their runs went on within {max(waits.killed):.1f} s")


def _simulation(proof: Proof, options: argparse.Namespace, until: float) -> None:
    """Worlds under a seed."""
    while (done := sum(figures["steps"] for figures in proof.of("simulation"))) < options.steps:
        if time.monotonic() > until:
            return
        seed, steps = random.randrange(2**31), min(_STEPS_AT_ONCE, options.steps - done)
        figures = _module("agentq.testing.simulation", "--seed", seed, "--steps", steps, "--json")
        proof.add("simulation", {"seed": seed, **figures})
        _say(f"simulation, seed {seed}: {figures['steps']} steps; {done + figures['steps']} of {options.steps}")


def _lost_replies(proof: Proof, options: argparse.Namespace, until: float) -> None:
    """Every script, carried out and not heard of."""
    while (done := report.least(proof.of("lost replies"))) < options.replies and time.monotonic() < until:
        seed, count = random.randrange(2**31), min(_REPLIES_AT_ONCE, options.replies - done)
        figures = _module("tests.chaos.lost_replies", "--seed", seed, "--count", count, "--json")
        proof.add("lost replies", figures)
        _say(f"lost replies, seed {seed}: {count} of each script; {done + count} of {options.replies}")


def _in_folder(name: str, work: Callable[[Path], Any]) -> Any:
    """Do a part of the work in a folder that goes when it ends well."""
    folder = Path(tempfile.mkdtemp(prefix=f"agentq-chaos-{name}-"))
    try:
        result = work(folder / name)
    except Exception as error:
        raise Failed(f"{type(error).__name__}: {error}\neverything that there is to see: {folder}") from error
    shutil.rmtree(folder)
    return result


def _module(name: str, *arguments: object) -> dict[str, Any]:
    """Run a module that prints one JSON document."""
    command = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise Failed(
            f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
