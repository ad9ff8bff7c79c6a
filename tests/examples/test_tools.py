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
        ("agents_as_tools", "Tea has been traded since 59 BC. Soap was made in Babylon.\n"),
        (
            "limits",
            (
                "sent to Ann, sent to Bob, sent to Cem\n"
                "ConnectionError: the address service does not answer\n"
                "ConnectionError: the address service does not answer\n"
                "look_up_address was not called: its last 2 calls failed\n"
            ),
        ),
        (
            "files_as_results",
            "3 months, 360 EUR.\n+ sales.png (image/png)\n+ sales.csv (text/csv)\nbest month: mar\n",
        ),
        ("tool_state", '["tea"]\n["tea","soap"]\npaid for 2 with [secret PAY_KEY]\nWelcome back! More soap?\n'),
    ],
)
def test_an_example_prints_what_its_tools_found(module: str, printed: str):
    command = [sys.executable, "-W", "error", "-m", f"examples.{module}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout) == (0, printed), ran.stderr
