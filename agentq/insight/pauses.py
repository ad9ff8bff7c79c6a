"""PURE: pauses in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq._words import duration
from agentq.insight.phrases import short
from agentq.insight.reasons import Code, Reason, reason_of
from agentq.runs import EVERYTHING, Status

if TYPE_CHECKING:
    from agentq.insight.facts import Snapshot
    from agentq.runs import Pause


def paused(seen: Snapshot) -> Reason:
    """The reason of a run that is paused."""
    run, pause = seen.run, seen.run.pause
    fix = f"agentq resume {run.run_id} lets it go on; agentq cancel {run.run_id} ends it"
    if pause is None:
        return reason_of(seen, Code.PAUSED, "it is paused", fix)
    details: dict[str, Any] = {"by": pause.by, "reason": pause.reason, "paused_ms": pause.at_ms}
    notes = ("it stands in line of its session",) if run.waits_for_session else ()
    return reason_of(seen, Code.PAUSED, paused_by(pause, seen.now_ms), fix, *notes, **details)


def paused_with(seen: Snapshot, scope: str) -> Reason:
    """The reason of a run whose agent or queue is paused, or everything."""
    pause = seen.pauses[scope]
    details: dict[str, Any] = {"scope": scope, "by": pause.by, "reason": pause.reason, "paused_ms": pause.at_ms}
    fix = f"agentq resume {option_of(scope)} lets it go on"
    return reason_of(seen, Code.PAUSED, paused_by(pause, seen.now_ms, in_words(scope)), fix, **details)


def in_words(scope: str) -> str:
    """`agent shop`, `queue slow`, `everything`."""
    return "everything" if scope == EVERYTHING else scope.replace(":", " ", 1)


def option_of(scope: str) -> str:
    """How the command line names the scope."""
    return "--all" if scope == EVERYTHING else "--" + scope.replace(":", " ", 1)


def paused_by(pause: Pause, now_ms: int, what: str = "it") -> str:
    """Who paused what, when, and why."""
    why = f": {short(pause.reason)}" if pause.reason else ""
    return f"{short(pause.by) if pause.by else 'somebody'} paused {what} {duration(now_ms - pause.at_ms)} ago{why}"


def will_pause(seen: Snapshot) -> tuple[str, ...]:
    """That it was paused, where it does not rest for that yet."""
    run = seen.run
    if run.pause is None or run.status is Status.PAUSED or run.status.is_final:
        return ()
    when = "when this iteration has ended" if run.status is Status.RUNNING else "when it would go on"
    return (f"{paused_by(run.pause, seen.now_ms)}; it is paused {when} (agentq resume {run.run_id} takes that back)",)
