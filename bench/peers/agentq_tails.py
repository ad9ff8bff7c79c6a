"""Many viewers in one process, of one run of agentq or of one run each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.latency import latency
from bench.measure import Figure
from bench.peers.agentq_viewers import watch

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

EVENTS_PER_S = Figure("events/s", 0)
CPU_US = Figure("CPU us per event, viewers", 1)
MB = Figure("MB resident, viewers", 0)
CONNECTIONS = Figure("connections", 0)
# Slower than deltas are joined, so that each token is an event.
PER_S = 5
# With few viewers, a round is a short one.
_TOKENS_AT_MOST = 20


class AgentqTails:
    name = "agentq AsyncClient"
    slow = False
    settings = "AsyncClient.events, one client for all viewers; the worker has a slot for each run"

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        """`Case.size` is the number of runs, where it is not that of the viewers."""
        watched = watch(
            bed,
            runs=case.size or runs,
            viewers=runs if case.size else 1,
            tokens=min(runs, _TOKENS_AT_MOST),
            per_s=PER_S,
        )
        seen = watched.viewers
        return {
            EVENTS_PER_S.name: seen["events"] / watched.seconds,
            **latency(seen["latencies_ns"]),
            CPU_US.name: seen["cpu_s"] / seen["events"] * 1e6,
            MB.name: seen["peak_kb"] / 1024,
            CONNECTIONS.name: watched.connections,
        }
