"""How many viewers one process carries."""

from __future__ import annotations

from bench.latency import P50, P99
from bench.measure import Case, Workload
from bench.peers.agentq_tails import CONNECTIONS, CPU_US, EVENTS_PER_S, MB, PER_S, AgentqTails

WORKLOAD = Workload(
    name="tails",
    question="How many viewers does one process carry?",
    description=(
        f"A thousand viewers in one process watch one run, or one run each, which streams {PER_S} tokens a second, "
        "each an event of its own. Latencies count from the model to the viewer. Every viewer is checked to have got "
        "every event, once and in order. What an event costs says how many more the process could carry. Connections "
        "are those that the viewing process has to Redis."
    ),
    figures=(P99, P50, EVENTS_PER_S, CPU_US, MB, CONNECTIONS),
    peers=(AgentqTails(),),
    cases=(
        Case("all of one run", runs=1000, runs_quick=1000, size=1),
        Case("one run each", runs=1000),
    ),
    rounds=3,
    rounds_quick=1,
)
