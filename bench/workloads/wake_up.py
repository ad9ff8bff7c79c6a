"""How long it takes from enqueue in one process to the call of the model in another."""

from __future__ import annotations

from bench.latency import P50, P99
from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_wake_up import LOAD, RATE, RETURNED, AgentqWakeUp
from bench.peers.job_wake_up import JobWakeUp
from bench.peers.queues import RQ, SAQ, TASKIQ

_IDLE, _BUSY = "idle", "under load"

WORKLOAD = Workload(
    name="wake_up",
    question="How soon is the model called?",
    description=(
        "A process enqueues one run after the other, 10 ms apart. The time counts from before the call of enqueue "
        "until the worker, another process, calls the model; and again from when enqueue has returned, where a "
        "negative number says that the model was called first. The queues beside it keep no state, and it is the "
        f"function of a job that is called. Under load, a third process enqueues {RATE:,} other runs or jobs a second "
        "for the same worker; one that does less than that falls behind, the more so the longer a round is."
    ),
    figures=(P50, P99, RETURNED, LOAD),
    peers=(AgentqWakeUp(), JobWakeUp(TASKIQ), JobWakeUp(SAQ), JobWakeUp(RQ, slots=1)),
    cases=(
        Case(_IDLE, runs=300, runs_quick=100),
        Case(_BUSY, runs=300, runs_quick=100, size=RATE),
    ),
    goals=(
        Goal(P50, Sense.AT_MOST, 1.5, case=_IDLE),
        Goal(P99, Sense.AT_MOST, 8, case=_IDLE),
    ),
    rounds=3,
    rounds_quick=1,
)
