"""The pages of docs/guide: every block of them is played, in order, and they name all that is public."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

import agentq
import agentq.testing
from agentq import Settings, errors
from tests.guide._pages import GUIDE, README, links, table
from tests.guide._walk import Walk
from tests.helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = {page.stem: page for page in GUIDE}
INDEX = ROOT / "docs" / "guide" / "README.md"
TEXT = "\n".join(page.read_text() for page in [README, *GUIDE])


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_the_page_is_true_from_its_first_block_to_its_last(page: Path, tmp_path: Path, redis_url: str):
    with Walk(tmp_path, redis_url) as walk:
        walk.play(page)


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_the_index_leads_to_every_page(page: Path):
    assert page == INDEX or page.name in links(INDEX)


@pytest.mark.parametrize("name", sorted({*agentq.__all__, *agentq.testing.__all__}))
def test_every_public_name_is_explained_somewhere(name: str):
    assert re.search(rf"\b{name}\b", TEXT), f"neither the README nor the guide says what {name} is"


def test_every_setting_stands_in_the_table_with_its_default():
    shown = {cells[0].strip("`"): cells[1].strip("`") for cells in table(PAGES["deploy"], "Settings")}
    wanted = {
        "REDIS_URL" if field.name == "redis_url" else f"AGENTQ_{field.name.upper()}": str(field.default)
        for field in fields(Settings)
    }
    assert shown == {name: "" if default == "None" else default for name, default in wanted.items()}


def test_every_exception_is_explained():
    tree = {
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.AgentQError) and kind.__module__ == errors.__name__
    }
    rows = table(PAGES["promises"], "Errors")
    assert {name for cells in rows for name in re.findall(r"`(\w+)`", cells[0])} == tree
