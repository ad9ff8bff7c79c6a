"""How many runs one worker process holds while they wait on a model, and what each costs in memory."""

from __future__ import annotations

from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_in_flight import AT_ONCE, IDEAL, KB_PER_RUN, MB, THINK_S, AgentqInFlight
from bench.peers.queues import SAQ, TASKIQ, Waits

_FEW, _MANY = "1,000 in flight", "5,000 in flight"

WORKLOAD = Workload(
    name="in_flight",
    question="How many runs does one worker process have in flight?",
    description=(
        f"Runs that wait {THINK_S} s on their model stand in the queue; the time counts from the moment at which the "
        "warm worker begins to claim until all have completed. The ideal is that they wait at once, as many as there "
        "are slots. Memory is measured after that, with runs that wait long enough for all slots to be taken: what was "
        "resident at most, and what each open call added to the idle worker."
    ),
    figures=(IDEAL, AT_ONCE, MB, KB_PER_RUN),
    peers=(AgentqInFlight(), Waits(TASKIQ), Waits(SAQ)),
    cases=(
        Case(_FEW, runs=2000, runs_quick=1000, size=1000),
        Case(_MANY, runs=5000, size=5000),
    ),
    goals=(
        Goal(IDEAL, Sense.AT_MOST, 1.2, case=_FEW),
        Goal(MB, Sense.AT_MOST, 250, case=_MANY),
    ),
    rounds=3,
    rounds_quick=1,
    size_name="runs in flight",
)
