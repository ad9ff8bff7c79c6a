"""The guide page shows the examples as they are."""

from __future__ import annotations

import pytest

from tests.guide._pages import Block, blocks
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "guide" / "web-app.md"
EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").glob("*_app.py"))]
EXCERPTS = [shown for shown in blocks(PAGE, "python") if "sketch" in shown.words]


@pytest.mark.parametrize("shown", EXCERPTS, ids=str)
def test_an_excerpt_stands_in_an_example(shown: Block):
    assert any(shown.text in example for example in EXAMPLES)


def test_every_example_is_shown():
    assert all(any(shown.text in example for shown in EXCERPTS) for example in EXAMPLES)
