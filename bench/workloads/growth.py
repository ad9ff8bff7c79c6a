"""What a claim and a sweep cost as the number of runs grows."""

from __future__ import annotations

from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_growth import REDIS_US, ROUND_TRIP_US, AgentqClaims, AgentqRenewals, AgentqSweeps

_SHORT, _LONG = "1,000 queued", "100,000 queued"
_FEW, _MANY = "1,000 live", "100,000 live"

CLAIMS = Workload(
    name="claims",
    question="What does a claim cost as the queue grows?",
    description="A claim pops a wake-up, takes the lease and reads the run. Medians of the claims of a round.",
    figures=(REDIS_US, ROUND_TRIP_US),
    peers=(AgentqClaims(),),
    cases=(
        Case("1 queued", runs=200, runs_quick=50, size=1),
        Case(_SHORT, runs=200, runs_quick=50, size=1000),
        Case(_LONG, runs=200, size=100_000),
    ),
    goals=(Goal(REDIS_US, Sense.AT_MOST, 1.5, case=_LONG, against_case=_SHORT),),
    rounds=3,
    rounds_quick=1,
    size_name="queued runs",
)

SWEEPS = Workload(
    name="sweeps",
    question="What does a sweep cost as the number of live runs grows?",
    description=(
        "Every worker sweeps once a second: expired leases, wake-ups that were lost, delays that are over. Medians of "
        "the sweeps of a round."
    ),
    figures=(REDIS_US, ROUND_TRIP_US),
    peers=(AgentqSweeps(),),
    cases=(
        Case("100 live", runs=200, runs_quick=50, size=100),
        Case(_FEW, runs=200, size=1000),
        Case("10,000 live", runs=200, size=10_000),
        Case(_MANY, runs=200, size=100_000),
    ),
    # A pass looks at a fixed number of runs, however many there are.
    goals=(Goal(REDIS_US, Sense.AT_MOST, 3, case=_MANY, against_case=_FEW),),
    rounds=3,
    rounds_quick=1,
    size_name="live runs",
)

RENEWALS = Workload(
    name="renewals",
    question="What does it cost to keep a run in flight?",
    description=(
        "A worker renews the leases of everything that it has in flight in one script, three times within a lease: "
        "every 3.3 s by default. The figures are per lease."
    ),
    figures=(REDIS_US, ROUND_TRIP_US),
    peers=(AgentqRenewals(),),
    cases=(
        Case("100 in flight", runs=50, runs_quick=20, size=100),
        Case("1,000 in flight", runs=50, size=1000),
        Case("5,000 in flight", runs=50, size=5000),
    ),
    rounds=3,
    rounds_quick=1,
    size_name="runs in flight",
)
