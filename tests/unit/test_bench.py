"""`make bench` measures and reports; how fast anything is, no test asks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench import plots
from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Case, Figure, Goal, Sense, Workload
from bench.report import Result, goals, page, setting, tables
from bench.workloads import WORKLOADS
from bench.workloads.iterations import WORKLOAD
from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BYTES = Figure("bytes", 0)


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.run", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


@pytest.mark.parametrize("workload", [workload.name for workload in WORKLOADS])
def test_a_small_bench_gives_every_figure_of_agentq(workload: str):
    written = ROOT / "docs" / "performance.md"
    before = written.read_bytes() if written.exists() else None
    (chosen,) = [one for one in WORKLOADS if one.name == workload]
    done = bench("--only", workload, "--quick", "--runs", "4", "--rounds", "1", "--peer", chosen.peers[0].name)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [cells(line)[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[0][1] == chosen.peers[0].name
    for figure in chosen.figures:
        assert any(figure.name in row for row in rows), f"no figure {figure.name}"
    assert f"\n- {chosen.peers[0].name}: {chosen.peers[0].settings}\n" in done.stdout
    assert (written.read_bytes() if written.exists() else None) == before


@pytest.fixture
def result() -> Result:
    """agentq and one peer, three rounds."""
    result = Result(WORKLOAD, ("agentq worker", "RQ SimpleWorker"), rounds=3, runs={"": 10})
    for speed in (3000.0, 1000.0, 2000.0):
        result.add("", "agentq worker", {THROUGHPUT.name: speed, WORKER_CPU.name: 0.5, REDIS_CPU.name: 0.1})
        result.add("", "RQ SimpleWorker", {THROUGHPUT.name: 250.0, WORKER_CPU.name: 5.0, REDIS_CPU.name: 1.0})
    return result


def test_medians_ranges_and_ratios(result: Result):
    rows = cells(tables(result))
    assert rows[0] == ["", "agentq worker", "RQ SimpleWorker", "ratio"]
    assert rows[2] == ["steps/s", "2,000 (1,000-3,000)", "250 (250-250)", "8.00"]
    assert rows[3][-1] == "0.10"


def test_goals_say_what_is_met_and_what_is_not(result: Result):
    rows = cells(goals([result]))
    assert rows[2:] == [
        ["iterations: steps/s", "≥ 2,500", "2,000", "**not met**"],
        ["iterations: steps/s", "≥ 8 x RQ SimpleWorker", "8.00", "met"],
        ["iterations: CPU ms per step, worker", "≤ 0.4", "0.500", "**not met**"],
        ["iterations: CPU ms per step, redis-server", "≤ 0.15", "0.100", "met"],
    ]


def test_a_goal_against_several_peers_takes_the_best_and_one_that_was_not_measured_is_left_out():
    goal = Goal(THROUGHPUT, Sense.AT_LEAST, 1, against=("slow", "fast", "absent"))
    workload = Workload("w", "W?", "", (THROUGHPUT,), (), (Case("", 1),), goals=(goal,))
    result = Result(workload, ("ours", "slow", "fast"), rounds=1, runs={"": 1})
    for peer, speed in (("ours", 300.0), ("slow", 100.0), ("fast", 200.0)):
        result.add("", peer, {THROUGHPUT.name: speed})
    assert cells(goals([result]))[2] == ["w: steps/s", "≥ 1 x the best bare chain", "1.50", "met"]
    alone = Result(workload, ("ours",), rounds=1, runs={"": 1})
    alone.add("", "ours", {THROUGHPUT.name: 300.0})
    assert len(cells(goals([alone]))) == 2


def test_a_goal_against_another_case_is_a_ratio_and_left_out_where_that_was_not_measured():
    goal = Goal(BYTES, Sense.AT_MOST, 1.5, case="many", against_case="few")
    workload = Workload("w", "W?", "", (BYTES,), (), (Case("few", 1), Case("many", 1)), goals=(goal,))
    result = Result(workload, ("ours",), rounds=1, runs={"few": 1, "many": 1})
    result.add("many", "ours", {BYTES.name: 120.0})
    assert len(cells(goals([result]))) == 2
    result.add("few", "ours", {BYTES.name: 100.0})
    assert cells(goals([result]))[2] == ["w: bytes, many", "≤ 1.5 x few", "1.20", "met"]


@pytest.fixture
def sized() -> Result:
    """Two sizes, of which the peer can do one."""
    cases = (Case("10 messages", 5, size=10), Case("1,000 messages", 5, size=1000))
    workload = Workload("sizes", "How big?", "Words.", (BYTES,), (), cases, size_name="messages")
    result = Result(workload, ("ours", "theirs"), rounds=1, runs={"10 messages": 5, "1,000 messages": 5})
    result.add("10 messages", "ours", {BYTES.name: 100})
    result.add("10 messages", "theirs", {BYTES.name: 400})
    result.add("1,000 messages", "ours", {BYTES.name: 110})
    result.unable["1,000 messages", "theirs"] = "its cap is 1 MB"
    return result


def test_several_cases_are_rows_and_what_a_peer_cannot_do_is_said(sized: Result):
    assert cells(tables(sized))[2:] == [["10 messages", "100", "400", "0.25"], ["1,000 messages", "110", "cannot", ""]]
    assert "- theirs, 1,000 messages: its cap is 1 MB" in setting(sized)


def test_the_page_has_the_tables_the_plots_and_the_command(tmp_path: Path, result: Result, sized: Result):
    folder = tmp_path / "performance"
    plots.draw([result, sized], folder)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(first) == ["iterations.svg", "sizes.svg"]
    assert "RQ SimpleWorker" in first["iterations.svg"]
    assert "theirs" in first["sizes.svg"]
    plots.draw([result, sized], folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    written = page([result, sized], redis_version="7.2.0", command="make bench", plots=folder)
    assert tables(result) in written
    assert "![How big?](performance/sizes.svg)" in written
    assert "redis-server 7.2.0" in written
    assert "$ make bench\n" in written
