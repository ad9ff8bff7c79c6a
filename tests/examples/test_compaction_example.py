"""The example of compaction does what it says, as somebody would call it."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.helpers import ROOT


def test_requests_stay_small_and_the_transcript_whole():
    done = subprocess.run(
        [sys.executable, "-m", "examples.compaction"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    *ways, output, largest, stored = done.stdout.splitlines()
    assert ways
    assert all(re.fullmatch(r"summary: about \d+ tokens → \d+", way) for way in ways)
    assert output == "A quiet voyage."
    assert int(re.findall(r"\d+", largest)[0]) < 2_500 < int(re.findall(r"\d+", stored)[0])
