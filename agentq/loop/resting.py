"""Models that just failed again and again are left in peace for a while, if there are others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq._clock import Clock


class Resting:
    """Which models rest, in this process: every worker finds out for itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def add(self, model: str, seconds: float) -> None:
        """Leave a model in peace for so long."""
        self._until[model] = self._clock.monotonic() + seconds

    def last(self, models: Sequence[str]) -> tuple[str, ...]:
        """The models, those that rest after the others."""
        if not self._until:
            return tuple(models)
        now = self._clock.monotonic()
        return tuple(sorted(models, key=lambda model: self._until.get(model, now) > now))
