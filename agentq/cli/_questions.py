"""How it is told that a run waits for somebody, and that somebody has said it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agentq.cli import _words
from agentq.cli._output import age, one_line

if TYPE_CHECKING:
    from agentq.events.model import RunAnswered, RunWaiting

_OUTCOMES = {"result": "this is its result", "did_not_happen": "it did not happen", "unknown": "it cannot be known"}


def asked(event: RunWaiting, width: int | None) -> tuple[str, str]:
    """What the run waits for, and how it is said. `width` is the room for a call."""
    called = _words.call(event.name, event.arguments, width)
    within = f", within {age(event.until_ms - event.at_ms)}" if event.until_ms else ""
    run_id, name = event.run_id, one_line(event.name)
    match event.kind:
        case "approval":
            who = f" ({one_line(' or '.join(event.approvers))})" if event.approvers else ""
            return (
                f"? {called} has to be allowed{who}{'; it cannot be undone' if event.destructive else ''}",
                f"Say it{within}: agentq approve {run_id}, or agentq deny {run_id}",
            )
        case "input":
            return f"? {name} asks: {one_line(event.text)}", f"Say it{within}: agentq answer {run_id} ANSWER"
        case "signal":
            return f"? {one_line(event.text)}{within}", f"agentq signal {run_id} NAME sends it"
        case _:
            return (
                f"? {called}: nobody knows what became of it",
                f"{one_line(event.text)} Say it: agentq answer {run_id}",
            )


def said(event: RunAnswered) -> str:
    """Who said what."""
    name, by = one_line(event.name), one_line(event.by) or "somebody"
    match event.answer:
        case "approved":
            changed = "" if event.arguments is None else f", as {_words.call(event.name, event.arguments)}"
            return f"{by} allowed {name}{changed}"
        case "denied":
            return f"{by} denied {name}{f': {one_line(event.reason)}' if event.reason else ''}"
        case "expired":
            return f"nobody said in time what {name} waits for"
        case "input":
            return f"{by} answered {name}"
        case "signal":
            return f"{by} sent the signal {name}"
        case outcome:
            return f"{by} says: {_OUTCOMES[outcome]}"


def said_when(event: RunAnswered) -> str:
    """The same, and how long ago."""
    return f"{said(event)}, {age(time.time() * 1000 - event.at_ms)} ago"
