"""Which runs and sessions a store lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.runs import FOR_PEOPLE, Status

if TYPE_CHECKING:
    from agentq.runs import RunState


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first. `before` is the run id that the last page ended with.

    `asks_people`: only those that wait for a person to say something.
    """

    status: Status | None = None
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    before: str | None = None
    limit: int = 50
    asks_people: bool = False

    def matches(self, run: RunState) -> bool:
        """Whether the run is one of those."""
        return (
            (self.before is None or run.run_id < self.before)
            and self.status in (None, run.status)
            and self.agent in (None, run.agent)
            and self.session_id in (None, run.session_id)
            and self.user_id in (None, run.user_id)
            and (not self.asks_people or asks_people(run))
        )


def asks_people(run: RunState) -> bool:
    """Whether the run waits for a person to say something."""
    return run.status is Status.WAITING and any(each.kind in FOR_PEOPLE for each in run.questions)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list, the one used last first. `offset` skips as many."""

    user_id: str | None = None
    offset: int = 0
    limit: int = 50
