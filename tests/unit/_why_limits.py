"""Cases of runs that rest because of a limit."""

from __future__ import annotations

from typing import Any

from agentq.insight.facts import PlacesFacts
from agentq.insight.reasons import Code
from agentq.runs import Question, RunState, Status

_RUN = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
_NOW = 1_700_000_000_000
_USED_UP = (Question("", "", "the run has reached its limit tokens=5: 7 used", "limit"),)


def _run(status: Status, **fields: Any) -> RunState:
    return RunState(_RUN, "calculator", status, queue="slow", created_ms=_NOW - 60_000, wake=1, **fields)


CASES_OF_LIMITS: list[tuple[str, RunState, dict[str, Any], Code, str]] = [
    (
        "a limit of the run",
        _run(Status.WAITING, questions=_USED_UP),
        {},
        Code.LIMIT_REACHED,
        "it waits until it may use more: the run has reached its limit tokens=5: 7 used",
    ),
    (
        "a limit that ends",
        _run(Status.WAITING, not_before_ms=_NOW + 60_000, questions=_USED_UP),
        {},
        Code.LIMITED_FOR_NOW,
        "it goes on in 1 m 00 s: the run has reached its limit tokens=5: 7 used",
    ),
    (
        "a place of its key",
        _run(Status.QUEUED, concurrency_key="tenant-7", concurrency=5, waits_for_place=True),
        {"places": PlacesFacts(5, 1)},
        Code.WAITS_FOR_PLACE,
        "5 runs of 'tenant-7' go on, of at most 5, and 1 other is before it in line",
    ),
]
