"""Bytes written to Redis, and bytes kept there."""

from __future__ import annotations

from bench.measure import Case, Goal, Sense, Workload
from bench.peers.agentq_footprint import FOREVER, KEPT, KEYS, USED, WRITTEN, AgentqFootprint

WORKLOAD = Workload(
    name="footprint",
    question="What does a run write to Redis, and what does it keep there?",
    description=(
        "Written is everything that Redis was sent, from the client that enqueues to the last commit. Kept is what "
        "Redis itself counts for the keys of a finished run, a KB being 1,024 bytes; the whole memory also holds the "
        "listings, and what Redis keeps of its own."
    ),
    figures=(KEPT, KEYS, FOREVER, WRITTEN, USED),
    peers=(AgentqFootprint(),),
    cases=(Case("", runs=500, runs_quick=100),),
    goals=(
        Goal(KEPT, Sense.AT_MOST, 24),
        Goal(KEYS, Sense.AT_MOST, 4),
        Goal(FOREVER, Sense.AT_MOST, 0),
    ),
    notes=(
        (
            "of what is kept, the transcript takes 22.0 KB (20 messages of 1 KB and five of this run, 21.6 KB as "
            "JSON), the events 4.6 KB, where Redis gives a stream at least 4 KB, and the run's hash 2.7 KB, the prompt "
            "among it"
        ),
    ),
    rounds=3,
    rounds_quick=1,
)
