"""Cases of runs that rest because of a limit."""

from __future__ import annotations

from typing import Any

from agentq.insight.facts import PlacesFacts, TenantFacts
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
    (
        "others of its tenant",
        _run(Status.QUEUED, tenant="acme", waits_for_tenant=True),
        {"tenant": TenantFacts(10, 312)},
        Code.WAITS_FOR_TENANT,
        "it stands behind 322 runs of tenant 'acme', 10 of which wait in queue slow",
    ),
    (
        "others with a priority",
        _run(Status.QUEUED, priority="low", waits_for_tenant=True),
        {"tenant": TenantFacts(1, 0)},
        Code.WAITS_FOR_TENANT,
        "it stands behind 1 run with a priority, 1 of which wait in queue slow",
    ),
    (
        "its line was deleted",
        _run(Status.QUEUED, tenant="acme", waits_for_tenant=True),
        {"tenant": TenantFacts(10, 0, is_lost=True)},
        Code.STUCK,
        "it waits in the line of runs of tenant 'acme', which does not know it: somebody deleted keys",
    ),
]
