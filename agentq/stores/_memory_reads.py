"""What the in-memory store says when it is asked. Changes nothing."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from agentq.errors import FileNotStored, RunNotFound
from agentq.messages import Message, decode_message
from agentq.stores._memory_run import is_expired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq._clock import Clock
    from agentq.limits import Meter, Spent
    from agentq.runs import Pause, RunState, SessionState
    from agentq.stores._memory_places import Places
    from agentq.stores._memory_run import MemoryRun
    from agentq.stores._memory_sessions import MemorySessions
    from agentq.stores.data import Signal
    from agentq.stores.filters import RunFilter, SessionFilter
    from agentq.stores.values import Scope


class MemoryReads:
    """The part of `MemoryStore` that only reads."""

    _clock: Clock
    _runs: dict[str, MemoryRun]
    _pauses: dict[str, Pause]
    _sessions: MemorySessions
    _places: Places

    async def read(self, run_id: str) -> RunState:
        """The state of a run."""
        return self._find(run_id).snapshot()

    async def messages(self, run_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """The transcript from index `start` on."""
        return self._find(run_id).transcript(start)

    async def signals(self, run_id: str) -> Mapping[str, Signal]:
        """The signals that no step has taken; see `Store.signals`."""
        return {name: signal for name, signal in self._find(run_id).signals.items() if signal is not None}

    async def journaled(self, run_id: str) -> Mapping[str, bytes]:
        """The journal of a run."""
        return dict(self._find(run_id).journal)

    async def list(self, which: RunFilter) -> tuple[RunState, ...]:
        """Runs, newest first."""
        runs = (run for run_id in sorted(self._runs, reverse=True) if (run := self._known(run_id)))
        return tuple(islice((run.snapshot() for run in runs if which.matches(run.state)), which.limit))

    async def pauses(self) -> Mapping[str, Pause]:
        """What is paused as a whole, by scope."""
        return dict(self._pauses)

    async def session(self, session_id: str) -> SessionState:
        """The state of a session."""
        return self._sessions.find(session_id).snapshot()

    async def session_messages(self, session_id: str, *, start: int = 0) -> tuple[Message, ...]:
        """What its ended runs left; see `Store.session_messages`."""
        return tuple(decode_message(data) for data in self._sessions.find(session_id).messages[start:])

    async def list_sessions(self, which: SessionFilter) -> tuple[SessionState, ...]:
        """Sessions, the one used last first."""
        return self._sessions.list(which)

    async def spent(self, meters: Sequence[Meter]) -> tuple[Spent, ...]:
        """What runs have used together; see `Store.spent`."""
        return tuple(map(self._sessions.spending.read, meters))

    async def file(self, run_id: str, digest: str) -> bytes:
        """The content of a file; see `Store.file`."""
        run = self._find(run_id)
        files = (run.session or run).files
        if digest not in files:
            raise FileNotStored(f"run {run_id}, file {digest[:12]}…: {FileNotStored().args[0]}")
        return files[digest]

    async def values(self, scope: Scope, of: str) -> Mapping[str, bytes]:
        """What tools keep for a run, a session or a user, by name."""
        if scope == "user":
            return dict(self._sessions.values_of_user(of))
        owner = self._known(of) if scope == "run" else self._sessions.known(of)
        return dict(owner.values) if owner else {}

    def _known(self, run_id: str) -> MemoryRun | None:
        run = self._runs.get(run_id)
        return None if run is None or is_expired(run, self._clock.now_ms()) else run

    def _find(self, run_id: str) -> MemoryRun:
        # Whoever asks for a run may change it: first those get their places that waited for what was changed before.
        self._places.settle(self._clock.now_ms())
        if run := self._known(run_id):
            return run
        raise RunNotFound.of(run_id)
