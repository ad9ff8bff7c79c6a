"""The examples of retrieval do what they say, as somebody would call them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.parametrize(
    ("example", "question", "first", "answer"),
    [
        ("retrieval", "How long is a run kept that has failed?", "retention.md", "How long is a run kept"),
        ("vectors", "Can I get my money back?", "refunds: You get your money back", "Can I get my money back?"),
    ],
)
def test_it_finds_the_passage_and_answers(example: str, question: str, first: str, answer: str):
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{example}", question],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert first in "\n".join(lines[:3])
    assert answer in lines[-1]
