"""How many runs one client enqueues in a second."""

from __future__ import annotations

from bench.measure import Case, Workload
from bench.peers.enqueueing import AGENTQ, CPU_US, RATE, RQ, SYNC

WORKLOAD = Workload(
    name="enqueue",
    question="How many runs does one client enqueue in a second?",
    description=(
        "Each is checked, stored and queued by one script before the call returns. RQ's job is a hash and an entry "
        "in a list; agentq's run is its transcript, its first event, its listings and its wake-up."
    ),
    figures=(RATE, CPU_US),
    peers=(AGENTQ, RQ),
    cases=(
        Case(SYNC, runs=2000, runs_quick=500),
        Case("1 at a time, AsyncClient", runs=3000, runs_quick=500, size=1),
        Case("10 at once, AsyncClient", runs=10_000, size=10),
        Case("100 at once, AsyncClient", runs=20_000, runs_quick=2000, size=100),
    ),
    rounds=3,
    rounds_quick=1,
)
