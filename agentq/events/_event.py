"""What every event has."""

from __future__ import annotations

from agentq.messages import Data


class Numbered(Data):
    """What every event has. `seq` is its cursor: 1, 2, 3, … within a run. `at_ms` is the store's clock."""

    run_id: str = ""
    seq: int = 0
    at_ms: int = 0
