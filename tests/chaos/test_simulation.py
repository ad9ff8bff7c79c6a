"""A fixed share of the deterministic simulation, and that it finds what is wrong when something is.

`python -m agentq.testing.simulation --seed 1 --steps 1000000` plays more of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agentq.testing.simulation import CALM, Figures, play
from agentq.testing.simulation.__main__ import main
from tests.chaos.planted import PLANTED, Fault
from tests.helpers import ROOT

if TYPE_CHECKING:
    from agentq.testing.simulation import Played

WORLDS = 11
# By then each planted fault has been found many times over, whatever seed one begins with.
ENOUGH = 150
A_FAULT = PLANTED[0]


@pytest.mark.parametrize("first", range(1000, 1000 + 8 * WORLDS, WORLDS))
def test_every_promise_holds_in_every_world(first: int) -> None:
    total = Figures()
    for seed in range(first, first + WORLDS):
        played = play(seed)
        assert not played.violations, _told(played)
        total += played.figures
    # A world in which nothing happens shows nothing.
    assert min(total.crashes, total.pauses, total.stalls, total.takeovers, total.cancels, total.hand_overs) > 0
    assert min(total.lost_replies, total.refused, total.strays, total.lost_wakeups, total.doubled_wakeups) > 0
    assert min(total.decisions, total.expiries, total.answers, total.signals, total.steered, total.holds) > 0
    assert min(total.replaced, total.questions) > 0
    assert total.iterations > 10 * WORLDS


def test_a_world_in_which_nothing_fails_loses_nothing() -> None:
    total = Figures()
    for seed in range(2000, 2005):
        played = play(seed, chances=CALM)
        assert not played.violations, _told(played)
        total += played.figures
    assert (total.crashes, total.lost_replies, total.pauses, total.lost_wakeups) == (0, 0, 0, 0)


def test_a_seed_is_one_world_bit_for_bit() -> None:
    """The same in this process, in another order, and in processes whose strings hash otherwise."""
    seeds = (3, 7, 11)
    here = [play(seed).digest for seed in seeds]
    assert [play(seed).digest for seed in reversed(seeds)] == here[::-1]
    assert len(set(here)) == len(seeds)
    code = f"from agentq.testing.simulation import play; print([play(seed).digest for seed in {seeds}])"
    for hash_seed in ("0", "1"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == str(here)


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    found = next(
        (played for seed in range(fault.first, fault.first + ENOUGH) if fault.is_shown_by(played := play(seed))), None
    )
    assert found is not None, f"{fault.name} was not found in {ENOUGH} worlds"
    again = play(found.seed)
    assert (again.violations, again.trace, again.digest) == (found.violations, found.trace, found.digest)


def test_the_command_prints_figures() -> None:
    ended = CliRunner().invoke(main, ["--seed", "5", "--steps", "1"])
    assert ended.exit_code == 0
    assert "seeds 5 to 5" in ended.output
    assert ended.output.rstrip().endswith(" 0")
    ended = CliRunner().invoke(main, ["--seed", "5", "--steps", "1", "--json"])
    told = json.loads(ended.output)
    assert (told["worlds"], told["violations"], told["failed"]) == (1, 0, None)
    assert told["steps"] == play(5).steps


def test_the_command_says_how_to_play_a_world_again(monkeypatch: pytest.MonkeyPatch) -> None:
    A_FAULT.plant(monkeypatch)
    ended = CliRunner().invoke(main, ["--seed", "1", "--steps", "1000000"])
    assert ended.exit_code == 1
    *_, last = ended.output.rstrip().splitlines()
    said, _, command = last.partition(": ")
    assert said == "again"
    again = CliRunner().invoke(main, command.split()[3:])
    assert again.exit_code == 1
    violation = next(line for line in again.output.splitlines() if "VIOLATION" in line)
    assert violation in ended.output
    failed = json.loads(CliRunner().invoke(main, [*command.split()[3:], "--json"]).output)["failed"]
    assert failed["again"] == command
    assert violation in failed["trace"]


def _told(played: Played) -> str:
    return "\n".join((f"seed {played.seed}", *played.trace, *played.violations))
