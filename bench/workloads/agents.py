"""The same agent-shaped work on libraries for durable agents."""

from __future__ import annotations

from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Case, Workload
from bench.peers.agentq_worker import AgentqWorker
from bench.peers.agents import DBOS, HAYHOOKS, LANGGRAPH

WORKLOAD = Workload(
    name="agents",
    question="How does that compare with other durable agents?",
    description=(
        "The same runs of three iterations on transcripts of 20 x 1 KB, on a model that answers at once. A step is one "
        "iteration. agentq's worker and that of Hayhooks take their runs through Redis; agentq streams every event. "
        "The others run in the calling process and write to a file."
    ),
    figures=(THROUGHPUT, WORKER_CPU, REDIS_CPU),
    peers=(AgentqWorker(), HAYHOOKS, LANGGRAPH, DBOS),
    cases=(Case("", runs=1000, runs_quick=100),),
    notes=("of these runs, the others do a fifth",),
    rounds=3,
    rounds_quick=1,
)
