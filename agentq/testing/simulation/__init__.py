"""A deterministic simulation: agentq's own loop, worker and client on a store that fails, under a seed.

from agentq.testing.simulation import play

played = play(7)
assert not played.violations, played.trace
"""

from __future__ import annotations

from agentq.testing.simulation.faults import CALM, Chances, Figures
from agentq.testing.simulation.world import Played, play

__all__ = ["CALM", "Chances", "Figures", "Played", "play"]
