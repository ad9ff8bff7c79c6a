"""`make bench` measures and reports; how fast anything is, no test asks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU
from bench.report import Result, page, table
from bench.workloads import WORKLOADS
from bench.workloads.iterations import WORKLOAD
from tests.helpers import ROOT


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.run", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)


@pytest.mark.parametrize("workload", [workload.name for workload in WORKLOADS])
def test_a_small_bench_gives_every_figure_of_every_peer(workload: str):
    written = ROOT / "docs" / "performance.md"
    before = written.read_bytes() if written.exists() else None
    done = bench("--only", workload, "--runs", "4", "--rounds", "1")
    assert (done.returncode, done.stderr) == (0, "")
    (chosen,) = [one for one in WORKLOADS if one.name == workload]
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [figure.name for figure in chosen.figures]
    for peer in chosen.peers:
        assert f" {peer.name} |" in rows[0]
        assert f"\n- {peer.name}: {peer.settings}\n" in done.stdout
    assert all(float(cell.replace(",", "")) > 0 for row in rows[2:] for cell in row.split("|")[2:-1])
    assert "redis-server " in done.stdout.splitlines()[-1]
    assert (written.read_bytes() if written.exists() else None) == before


def test_medians_ranges_and_ratios():
    ours = [{THROUGHPUT.name: speed, WORKER_CPU.name: 0.4, REDIS_CPU.name: 0.1} for speed in (3000.0, 1000.0, 2000.0)]
    theirs = [{THROUGHPUT.name: 250.0, WORKER_CPU.name: 4.0, REDIS_CPU.name: 1.0}] * 3
    result = Result(WORKLOAD, 10, dict(zip([peer.name for peer in WORKLOAD.peers], (ours, theirs), strict=True)))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(result).splitlines()]
    assert rows[0] == ["", "agentq worker", "RQ SimpleWorker", "ratio"]
    assert rows[2] == ["steps/s", "2,000 (1,000-3,000)", "250 (250-250)", "8.00"]
    assert rows[3][-1] == "0.10"
    written = page([result], redis_version="7.2.0", command="make bench")
    assert table(result) in written
    assert "redis-server 7.2.0" in written
    assert "$ make bench\n" in written


def test_what_cannot_be_measured_is_a_usage_error():
    assert bench("--only", "nothing").returncode == 2
    assert bench("--rounds", "0").returncode == 2
