"""PURE: what a run has been through that explains why it is where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq._words import age, count
from agentq.runs import RunState, is_suspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentq.insight.facts import Snapshot


def past(seen: Snapshot) -> Iterator[str]:
    """Notes for whoever asks about the run."""
    run, history = seen.run, seen.history
    if run.recoveries and not run.status.is_final:
        yield _crashes(run)
    if run.retries:
        yield f"it was taken up again {count(run.retries, 'time')} after its end"
    if run.lost_ms:
        yield f"Redis has lost a part of it; that was noticed {age(seen.now_ms - run.lost_ms)} ago"
    if history.epoch > 1 and history.since_ms > run.created_ms:
        restarted = f"Redis was restarted or replaced {age(seen.now_ms - history.since_ms)} ago (epoch {history.epoch})"
        lost = history.lost_ms > run.created_ms and not run.lost_ms
        yield f"{restarted}, and has lost data of other runs" if lost else restarted


def _crashes(run: RunState) -> str:
    times = "once" if run.recoveries == 1 else "twice" if run.recoveries == 2 else f"{run.recoveries} times"
    told = f"it lost its worker {times} since its last commit"
    return f"{told}, so it is worked on alone" if is_suspect(run) else told
