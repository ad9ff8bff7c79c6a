"""`from agentq import …` offers exactly what `__all__` says."""

from __future__ import annotations

from types import ModuleType

import agentq


def test_all_is_sorted_and_without_doubles():
    assert list(agentq.__all__) == sorted(set(agentq.__all__))


def test_every_name_in_all_resolves():
    missing = [name for name in agentq.__all__ if not hasattr(agentq, name)]
    assert missing == []


def test_every_public_name_is_in_all():
    # Submodules become attributes when something imports them; `annotations` is the future import.
    found = {
        name
        for name in dir(agentq)
        if not name.startswith("_") and name not in ("annotations", "TYPE_CHECKING")
        if not isinstance(getattr(agentq, name), ModuleType)
    }
    assert found == {name for name in agentq.__all__ if not name.startswith("_")}
