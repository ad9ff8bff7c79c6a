"""The page of events has every type, with every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from agentq.events.model import Event

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "events.md"
_OF_ALL = {"type", "run_id", "seq", "at_ms"}


def test_every_type_has_a_row_that_names_its_fields():
    rows = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            kind, _, fields = line.strip("| ").split(" | ")
            rows[kind.strip("`")] = set(re.findall(r"`(\w+)`", fields))
    known = {
        each.model_fields["type"].default: set(each.model_fields) - _OF_ALL for each in get_args(get_args(Event)[0])
    }
    assert rows == known, "docs/guide/events.md needs a row for each type of event, with its fields"
