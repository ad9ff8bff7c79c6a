"""For the tests of who uses or extends agentq: a scripted model, crash tests, a clock to move, suites for stores.

The suites need pytest and pytest-asyncio and are loaded when asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from agentq.testing.clock import FakeClock
from agentq.testing.crashes import (
    Point,
    PointNotReached,
    Trial,
    after_commit,
    after_reply,
    after_result,
    after_tool,
    before_commit,
    before_tool,
    rehearse,
)
from agentq.testing.models import ScriptedCall, ScriptedModel, call
from agentq.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from agentq.testing.store_contract import StoreContract
    from agentq.testing.stream_contract import StreamContract

__all__ = [
    "FakeClock",
    "FaultProxy",
    "Point",
    "PointNotReached",
    "ScriptedCall",
    "ScriptedModel",
    "StoreContract",
    "StreamContract",
    "Trial",
    "after_commit",
    "after_reply",
    "after_result",
    "after_tool",
    "before_commit",
    "before_tool",
    "call",
    "rehearse",
]

_SUITES = {"StoreContract": "store_contract", "StreamContract": "stream_contract"}
_PARTS = (
    "_contract",
    "_child_rules",
    "_commit_rules",
    "_file_rules",
    "_lease_rules",
    "_session_rules",
    "_steering_rules",
    "_value_rules",
)


def __getattr__(name: str) -> Any:
    if name not in _SUITES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # Their asserts explain themselves like those of any test; a module that is imported already is past that.
    modules = [f"{__name__}.{module}" for module in (*_SUITES.values(), *_PARTS)]
    pytest.register_assert_rewrite(*(module for module in modules if module not in sys.modules))
    return getattr(importlib.import_module(f"{__name__}.{_SUITES[name]}"), name)
