"""How soon and how many tokens go from the model in a worker process to viewers in another."""

from __future__ import annotations

from bench.latency import P50, P99
from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_tokens import TOKENS_PER_S, VIEWER_US, WORKER_US, AgentqTokens

_PACED, _FAST = "50 tokens/s each", "as fast as it goes"

WORKLOAD = Workload(
    name="tokens",
    question="How soon does a viewer see a token, and how many can one worker process stream?",
    description=(
        "Runs stream at the same time, and each has a viewer in another process. At a pace, a run sends 50 tokens a "
        "second, in pauses that waver between 10 and 30 ms; each token says when the model gave it, and the time "
        "counts until the viewer has the event with it. Without pauses, the model gives tokens as fast as the worker "
        "takes them, and they count when the last viewer has the last one. Every viewer is checked to have got every "
        "token."
    ),
    figures=(P50, P99, TOKENS_PER_S, WORKER_US, VIEWER_US),
    peers=(AgentqTokens(),),
    cases=(
        Case(_PACED, runs=200, runs_quick=200, size=50),
        Case(_FAST, runs=200, runs_quick=50),
    ),
    goals=(
        Goal(P50, Sense.AT_MOST, 25, case=_PACED),
        Goal(P99, Sense.AT_MOST, 60, case=_PACED),
        Goal(TOKENS_PER_S, Sense.AT_LEAST, 100_000, case=_FAST),
    ),
    rounds=3,
    rounds_quick=1,
)
