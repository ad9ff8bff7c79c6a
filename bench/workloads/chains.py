"""Durable iterations against the bare chains of jobs that other queues run, which keep no state."""

from __future__ import annotations

from bench.measure import REDIS_CPU, THROUGHPUT, WORKER_CPU, Case, Goal, Sense, Workload
from bench.peers.agentq_worker import AgentqWorker
from bench.peers.queues import SAQ, TASKIQ, Chain
from bench.peers.rq_chain import RQ_FORKING, RQ_SIMPLE

_OTHERS = (Chain(TASKIQ), Chain(SAQ, slow=True), RQ_SIMPLE, RQ_FORKING)

WORKLOAD = Workload(
    name="chains",
    question="How does that compare with queues that keep nothing?",
    description=(
        "A step of agentq is one durable iteration, as above. A step of the others is one empty job of a chain: there "
        "is no lease, no transcript, no stream, and what a worker had taken when it is killed is lost or waits."
    ),
    figures=(THROUGHPUT, WORKER_CPU, REDIS_CPU),
    peers=(AgentqWorker(), *_OTHERS),
    cases=(Case("", runs=1000, runs_quick=200),),
    goals=(Goal(THROUGHPUT, Sense.AT_LEAST, 1, against=tuple(peer.name for peer in _OTHERS)),),
    rounds=3,
    rounds_quick=1,
)
