"""Tokens from the model in agentq's worker to viewers in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq import Settings
from bench.latency import latency
from bench.measure import Figure
from bench.peers.agentq_viewers import watch

if TYPE_CHECKING:
    from bench.measure import Bed, Case, Sample

TOKENS_PER_S = Figure("tokens/s", 0)
WORKER_US = Figure("CPU us per token, worker", 2)
VIEWER_US = Figure("CPU us per token, viewers", 2)
# What a run streams at a pace, and as fast as it goes. With few runs, a round is a short one.
_PACED_AT_MOST, _PACED_PER_RUN = 200, 10
_FAST = 4000


class AgentqTokens:
    name = "agentq worker"
    slow = False

    @property
    def settings(self) -> str:
        joined_ms = Settings().coalesce_ms
        return (
            f"a slot for each run, the other settings by default: deltas joined for {joined_ms} ms; AsyncClient.events"
        )

    def prepare(self) -> None:
        """It is this checkout."""

    def measure(self, bed: Bed, case: Case, runs: int) -> Sample:
        """`Case.size` is the pace, in tokens per second of each run."""
        tokens = min(_PACED_AT_MOST, _PACED_PER_RUN * runs) if case.size else _FAST
        watched = watch(bed, runs=runs, viewers=1, tokens=tokens, per_s=case.size)
        total = runs * tokens
        return {
            **(latency(watched.viewers["latencies_ns"]) if case.size else {}),
            TOKENS_PER_S.name: total / watched.seconds,
            WORKER_US.name: watched.worker["cpu_s"] / total * 1e6,
            VIEWER_US.name: watched.viewers["cpu_s"] / total * 1e6,
        }
