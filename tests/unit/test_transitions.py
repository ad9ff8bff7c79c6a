"""The transition table in Lua says what the one in runs.py says."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from agentq.runs import FINAL, TRANSITIONS, Status
from tests.helpers import LUA

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture(scope="module")
def tables() -> Mapping[str, Any]:
    """What _status.lua holds after it has run: its locals are gone with the chunk, so it is made to return them."""
    source = (LUA / "_status.lua").read_text()
    return dict(
        importlib.import_module("lupa.lua51")
        .LuaRuntime()
        .execute(f"{source}\nreturn {{transitions = TRANSITIONS, final = FINAL}}")
    )


def test_both_tables_hold_the_same_transitions(tables: Mapping[str, Any]):
    in_lua = {
        Status(before): frozenset(Status(after) for after, allowed in dict(following).items() if allowed)
        for before, following in dict(tables["transitions"]).items()
    }
    assert in_lua == dict(TRANSITIONS)


def test_both_call_the_same_statuses_final(tables: Mapping[str, Any]):
    assert {Status(name) for name, final in dict(tables["final"]).items() if final} == FINAL
