"""How many browsers one process of the web app serves."""

from __future__ import annotations

from bench.latency import P50, P99
from bench.measure import Case, Workload
from bench.peers.agentq_tails import CONNECTIONS, CPU_US, EVENTS_PER_S, MB, PER_S
from bench.peers.agentq_web import AgentqWeb

WORKLOAD = Workload(
    name="web",
    question="How many browsers does one process serve?",
    description=(
        "Browsers watch runs over HTTP as server-sent events, from one process of uvicorn: two hundred of them one "
        f"run, or a thousand one run each, which streams {PER_S} tokens a second, each an event of its own. Latencies "
        "count from the model to the browser. Every browser is checked to have got every event, once and in order. "
        "CPU, memory and connections to Redis are those of the serving process."
    ),
    figures=(P99, P50, EVENTS_PER_S, CPU_US, MB, CONNECTIONS),
    peers=(AgentqWeb(),),
    cases=(
        Case("200 of one run", runs=200, runs_quick=200, size=1),
        Case("one run each", runs=1000),
    ),
    rounds=3,
    rounds_quick=1,
)
