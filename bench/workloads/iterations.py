"""How many durable iterations one worker process does in a second, and what each costs."""

from __future__ import annotations

from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Case, Goal, Sense, Workload
from bench.peers.agentq_worker import AgentqWorker
from bench.peers.rq_chain import RQ_SIMPLE

WORKLOAD = Workload(
    name="iterations",
    question="How many iterations does one worker process do in a second?",
    description=(
        "A step of agentq is one durable iteration. A run has three: tool, tool, answer, on an instant model, "
        'each tool with effect="none", the transcript begun with 20 messages of 1 KB. A step of RQ is one empty job of '
        "a chain, without any state. Two agentq workers are two such processes on one queue, which begin together."
    ),
    figures=(THROUGHPUT, WORKER_CPU, REDIS_CPU),
    peers=(AgentqWorker(), RQ_SIMPLE, AgentqWorker(workers=2)),
    cases=(Case("", runs=1000, runs_quick=200),),
    goals=(
        Goal(THROUGHPUT, Sense.AT_LEAST, 2500),
        Goal(THROUGHPUT, Sense.AT_LEAST, 8, against=(RQ_SIMPLE.name,)),
        Goal(WORKER_CPU, Sense.AT_MOST, 0.4),
        Goal(REDIS_CPU, Sense.AT_MOST, 0.15),
    ),
)
