"""Places of concurrency keys in the in-memory store: says in Python what `_places.lua` does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentq.runs import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.stores._memory_run import MemoryRun


@dataclass(slots=True)
class _Places:
    """Of one key: the runs that have one, and those in line."""

    taken: set[str] = field(default_factory=set)
    line: deque[str] = field(default_factory=deque)


class Places:
    """Who may go on. `find` gives a run that is there."""

    def __init__(self, find: Callable[[str], MemoryRun | None]) -> None:
        self._find = find
        self._keys: dict[str, _Places] = {}

    def admits(self, run: MemoryRun, now: int) -> bool:
        """Whether a run that is about to be claimed has a place; else it is in line now."""
        state = run.state
        if state.concurrency_key is None or state.status is not Status.QUEUED:
            return True
        if state.is_cancel_requested:
            if state.waits_for_place:
                self._keys[state.concurrency_key].line.remove(state.run_id)
                run.state = replace(state, waits_for_place=False)
            return True
        self._settle(state.concurrency_key, now)
        places = self._keys.setdefault(state.concurrency_key, _Places())
        if state.run_id in places.taken:
            return True
        # It would be the first in line, and those who stand there may have to wait for more places to be free.
        if len(places.taken) < state.concurrency and (state.fence > 0 or not places.line):
            places.taken.add(state.run_id)
            return True
        if state.fence > 0:
            places.line.appendleft(state.run_id)
        else:
            places.line.append(state.run_id)
        run.state = replace(state, waits_for_place=True)
        run.due_ms = None
        return False

    def settle(self, now: int) -> None:
        """Give free places to those in line: they become due."""
        for key in tuple(self._keys):
            self._settle(key, now)

    def _settle(self, key: str, now: int) -> None:
        places = self._keys.get(key)
        if places is None:
            return
        places.taken = {run_id for run_id in places.taken if self._goes_on(run_id)}
        for run_id in [run_id for run_id in places.line if not self._waits(run_id)]:
            places.line.remove(run_id)
        while places.line and (run := self._find(places.line[0])) and len(places.taken) < run.state.concurrency:
            places.taken.add(places.line.popleft())
            run.state = replace(run.state, waits_for_place=False)
            run.due_ms = now
        if not places.taken and not places.line:
            del self._keys[key]

    def _goes_on(self, run_id: str) -> bool:
        run = self._find(run_id)
        return run is not None and run.state.status in (Status.QUEUED, Status.RUNNING)

    def _waits(self, run_id: str) -> bool:
        """Whether the run still stands in line; one that rests or is gone does not."""
        run = self._find(run_id)
        if run is None or run.state.status is Status.QUEUED:
            return run is not None
        run.state = replace(run.state, waits_for_place=False)
        return False
