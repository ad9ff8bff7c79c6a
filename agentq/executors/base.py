"""The executor protocol: anything that can see to it that a run is advanced."""

from __future__ import annotations

from typing import Protocol


class Executor(Protocol):
    """Schedules iterations.

    An executor may also have a `wakeup` attribute (`agentq.stores.base.Wakeup`): then a store that shares its Redis
    writes the wake-up inside its own commit, and `schedule_next_iteration` is called only when it could not.
    """

    async def schedule_next_iteration(self, run_id: str, *, delay: float = 0) -> None:
        """See to it that the run is advanced once, `delay` seconds from now. Waking a run twice does no harm."""
        ...
