"""The examples about tools print what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.parametrize(
    ("module", "printed"),
    [
        (
            "toolsets",
            (
                "There is no tool named desk_refund; there are: shop_find\n"
                "order 7 is refunded\n"
                "There is no tool named desk_refund; there are: shop_find\n"
            ),
        ),
        ("mcp_server", "tea: 12\n"),
        ("tool_state", '["tea"]\n["tea","soap"]\npaid for 2 with [secret PAY_KEY]\nWelcome back! More soap?\n'),
    ],
)
def test_an_example_prints_what_its_tools_found(module: str, printed: str):
    command = [sys.executable, "-W", "error", "-m", f"examples.{module}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout) == (0, printed), ran.stderr
