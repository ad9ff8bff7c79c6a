"""The sessions of a simulated world: in which order their runs go on, and what each sees of the earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.stores.base import Claim, NewRun
    from agentq.testing.simulation.known import Known


class Sessions:
    """Knows who stands in which line. `remembered` are the runs whose messages a session keeps, in order."""

    def __init__(self, wrong: Callable[[Known, str], None]) -> None:
        self.remembered: dict[str, list[Known]] = {}
        self._lines: dict[str, list[Known]] = {}
        self._wrong = wrong

    def enter(self, known: Known) -> None:
        """Have a run take its place; again it keeps that."""
        if known.new.session_id is not None and not known.has_entered:
            known.has_entered = True
            self._lines.setdefault(known.new.session_id, []).append(known)

    def in_way(self, new: NewRun) -> list[Known]:
        """The runs that a new one finds in its session, the live one first."""
        line = self._lines.get(new.session_id or "", [])
        return [known for known in line if not known.status.is_final and not known.has_left]

    def make_way(self, new: NewRun) -> list[Known]:
        """Those that a new run stops. They leave the line; what the live one said may be forgotten."""
        if new.when_busy not in ("interrupt", "replace"):
            return []
        stopped = self.in_way(new)
        for index, known in enumerate(stopped):
            known.has_left = index > 0
            known.is_forgotten = known.is_forgotten or (index == 0 and new.when_busy == "replace")
        return stopped

    def remember(self, known: Known) -> None:
        """A run has ended: its session keeps what it said, if it was its turn."""
        if known.new.session_id is not None and self._is_live(known) and not known.is_forgotten:
            self.remembered.setdefault(known.new.session_id, []).append(known)

    def check_turn(self, known: Known, claim: Claim) -> None:
        """Runs of a session go on one after the other, and see what the earlier ones said."""
        if known.new.session_id is None:
            return
        if not self._is_live(known):
            self._wrong(known, "it was claimed before its turn in its session")
        earlier = self.remembered.get(known.new.session_id, [])
        if len(claim.history) != sum(other.message_count for other in earlier):
            self._wrong(known, f"it sees {len(claim.history)} messages of its session's earlier runs")

    def _is_live(self, known: Known) -> bool:
        """Whether every run that stands before it has ended, or left."""
        line = self._lines.get(known.new.session_id or "", [])
        if known not in line or known.has_left:
            return False
        return all(other.status.is_final or other.has_left for other in line[: line.index(known)])
