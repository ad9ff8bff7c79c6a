"""PURE: how runs, calls and workers are named in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq._words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.insight.facts import WorkerInfo

_MAX_ERROR_CHARS = 300
_MAX_ARGUMENT_CHARS = 100


def wakeups(number: int) -> str:
    return "no wake-up" if number == 0 else count(number, "wake-up")


def names(workers: tuple[WorkerInfo, ...]) -> str:
    shown = [worker.name for worker in workers[:3]]
    return ", ".join(shown) + (f" and {len(workers) - 3} more" if len(workers) > 3 else "")


def short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_ERROR_CHARS else line[: _MAX_ERROR_CHARS - 1] + "…"


def shown_call(tool: str, arguments: Mapping[str, Any]) -> str:
    """A call as its reader would write it, not too long."""
    given = ", ".join(f"{name}={_json.dumps(value).decode()}" for name, value in arguments.items())
    return f"{tool}({given})" if len(given) <= _MAX_ARGUMENT_CHARS else f"{tool}({given[: _MAX_ARGUMENT_CHARS - 1]}…)"
