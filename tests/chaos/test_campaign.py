"""A fixed small share of `make chaos`: real workers that are killed, lost replies, and the page that tells of all."""

from __future__ import annotations

import argparse
import random
from typing import TYPE_CHECKING

import pytest

from tests.chaos import lost_replies, report, run
from tests.chaos.campaign import Plan, Slice
from tests.chaos.lost_replies import MOVES_ON, SCRIPTS, lose_replies
from tests.chaos.proof import Proof

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = {
    "seed": 7, "seconds": 30.0, "faults": {"kill": 200, "redis": 2}, "runs": 2000, "iterations": 7500, "calls": 9000,
    "unknown": 100, "decisions": 700, "holds": 90,
    "cancelled": 60, "recoveries": 900, "events": 50000, "moves": 1500, "viewers": 400, "returns": 170,
}  # fmt: skip


@pytest.mark.timeout(300)
async def test_killed_workers_lose_nothing_and_repeat_nothing(tmp_path: Path):
    """Four workers and two hundred runs of every shape, while workers, connections and Redis are killed."""
    seed = random.randrange(2**32)
    plan = Plan(kills=25, least_runs=200)
    try:
        found = await Slice(tmp_path / "slice", seed, plan).run()
    except AssertionError as error:
        raise AssertionError(
            f"seed {seed}: {error}\n{(tmp_path / 'slice' / 'workers.log').read_text()[-3000:]}"
        ) from error
    assert found.kills >= 25
    assert found.runs >= 200
    assert found.iterations > 500
    assert found.recoveries > 0
    assert found.viewers >= 40
    assert found.decisions > 20


async def test_each_script_may_lose_its_reply(redis_url: str):
    figures = await lose_replies(redis_url, count=12, seed=random.randrange(2**32))
    assert set(figures["per_script"]) == set(SCRIPTS)
    assert min(figures["per_script"].values()) >= 12


def test_every_script_has_a_way_to_be_sent():
    assert set(MOVES_ON) < set(SCRIPTS)
    assert {name for name in SCRIPTS if hasattr(lost_replies.World, f"do_{name}")} == set(SCRIPTS)


async def test_a_script_that_is_not_idempotent_is_found(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    """One that counts up is called idempotent."""
    monkeypatch.delitem(lost_replies.MOVES_ON, "count_wake")
    with pytest.raises(lost_replies.Violation, match="count_wake"):
        await lose_replies(redis_url, count=12, seed=1)


class TestPage:
    @pytest.fixture
    def options(self) -> argparse.Namespace:
        return argparse.Namespace(kills=10_000, steps=1_000_000, replies=10_000, defaults=50)

    def test_it_says_how_far_the_proof_is(self, tmp_path: Path, options: argparse.Namespace):
        proof = Proof(tmp_path)
        assert report.page(proof, options).count("Not done on these sources yet.") == 3
        for _ in range(2):
            proof.add("campaign", FIGURES)
        proof.add("defaults", {"killed": [9.2, 9.9], "terminated": [0.3, 0.4]})
        proof.add("lost replies", {"per_script": {"commit": 10_000, "claim": 20_000}})
        page = report.page(proof, options)
        assert "| `kill -9` of a worker | 400 of 10,000 so far |" in page
        assert "| iterations, each committed once | 15,000 |" in page
        assert "| `kill -9`, 2 of 50 so far | 9.55 s | 9.90 s |" in page
        assert "| `commit` | 10,000 |" in page
        assert "<!--" not in page

    def test_a_whole_proof_says_no_more_than_its_figures(self, tmp_path: Path, options: argparse.Namespace):
        proof = Proof(tmp_path)
        for _ in range(50):
            proof.add("campaign", FIGURES)
        assert "| `kill -9` of a worker | 10,000 |" in report.page(proof, options)

    def test_what_was_done_on_other_sources_does_not_count(
        self, tmp_path: Path, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
    ):
        proof = Proof(tmp_path)
        proof.add("campaign", FIGURES)
        monkeypatch.setattr("tests.chaos.proof.heart", lambda: "others")
        monkeypatch.setattr("tests.chaos.report.heart", lambda: "others")
        page = report.page(proof, options)
        assert "which are not counted above: 200 kills over 7,500 iterations" in " ".join(page.split())
        assert "| iterations, each committed once | 0 |" in page


def test_a_slice_that_fails_is_kept_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(seed: int, folder: Path) -> dict[str, int]:
        folder.mkdir()
        (folder / "ledger").write_text("what happened")
        raise AssertionError("run R has a gap")

    monkeypatch.setattr(run, "_slice", fails)
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    arguments = ["--kills", "1", "--steps", "0", "--replies", "0", "--defaults", "0", "--no-write"]
    assert run.main([*arguments, "--folder", str(tmp_path / "proof")]) == 1
    said = capsys.readouterr().err
    assert "run R has a gap" in said
    assert str(tmp_path) in said
    assert [path.read_text() for path in tmp_path.glob("campaign-*/ledger")] == ["what happened"]
