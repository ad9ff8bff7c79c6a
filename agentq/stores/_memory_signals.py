"""What is sent into runs of the in-memory store from outside, and the end of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import SessionBusy
from agentq.runs import Pause, Status
from agentq.stores._memory_moves import decide, give_answer, keep_signal, pause, resume, set_limits, take_message
from agentq.stores._memory_reads import MemoryReads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentq.events.model import Event
    from agentq.limits import RunLimits
    from agentq.stores._memory_run import MemoryRun
    from agentq.stores.base import Answer, Decision, Released, Signal, Signalled, Steer, Wakeup


class MemorySignals(MemoryReads):
    """The part of `MemoryStore` that answers and pauses runs, and deletes sessions."""

    _keys: dict[str, str]

    async def answer(self, run_id: str, answer: Answer, *, wake: Wakeup | None = None) -> Released:
        """Journal what a waiting run waited for; see `Store.answer`."""
        return give_answer(self._find(run_id), answer, self._clock.now_ms())

    async def decide(self, run_id: str, decision: Decision, *, wake: Wakeup | None = None) -> Released:
        """Journal what a person decided; see `Store.decide`."""
        return decide(self._find(run_id), decision, self._clock.now_ms())

    async def signal(self, run_id: str, signal: Signal, *, wake: Wakeup | None = None) -> Released:
        """Keep a signal; see `Store.signal`."""
        return keep_signal(self._find(run_id), signal, self._clock.now_ms())

    async def set_limits(
        self, run_id: str, limits: RunLimits, events: Sequence[Event] = (), *, wake: Wakeup | None = None
    ) -> Released:
        """Give a run limits of its own; see `Store.set_limits`."""
        return set_limits(self._find(run_id), limits, events, self._clock.now_ms())

    async def steer(self, run_id: str, steer: Steer) -> Status:
        """Put a message into a run; see `Store.steer`."""
        return take_message(self._find(run_id), steer, self._clock.now_ms())

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> Signalled:
        """Pause a run; see `Store.pause`."""
        return pause(self._find(run_id), reason, by, self._clock.now_ms())

    async def resume(self, run_id: str, *, by: str = "", wake: Wakeup | None = None) -> Released:
        """Let a run go on; see `Store.resume`."""
        return resume(self._find(run_id), by, self._clock.now_ms())

    async def pause_all(self, scope: str, *, reason: str = "", by: str = "") -> Pause:
        """Pause an agent, a queue or everything; see `Store.pause_all`."""
        return self._pauses.setdefault(scope, Pause(reason, by, self._clock.now_ms()))

    async def resume_all(self, scope: str) -> None:
        """Let it go on; see `Store.resume_all`."""
        self._pauses.pop(scope, None)

    async def delete_session(self, session_id: str) -> None:
        """Delete a session and its runs; see `Store.delete_session`."""
        session = self._sessions.known(session_id)
        if session is not None and session.open_runs > 0:
            raise SessionBusy(f"session {session_id!r}: {SessionBusy().args[0]}")
        self._sessions.delete(session_id)
        for run in [run for run in self._runs.values() if run.state.session_id == session_id]:
            self._delete(run)

    def _delete(self, run: MemoryRun) -> None:
        for child in filter(None, map(self._known, run.children)):
            if child.state.status.is_final:
                self._delete(child)
        self._runs.pop(run.state.run_id, None)
        key = run.state.idempotency_key
        if key is not None and self._keys.get(key) == run.state.run_id:
            del self._keys[key]
