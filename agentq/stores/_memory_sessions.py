"""Sessions as the in-memory store keeps them: says in Python what `_session.lua` does."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentq.errors import SessionConflict, SessionMovedOn, SessionNotFound
from agentq.runs import SessionState
from agentq.stores._memory_expiry import Expiring
from agentq.stores._memory_shared import MemoryShared
from agentq.stores._memory_spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentq.stores.filters import SessionFilter


@dataclass(slots=True)
class MemorySession:
    """One conversation. `line` are the runs behind the live one; `expires_ms` is None while a run is open."""

    session_id: str
    created_ms: int
    used_ms: int
    user_id: str | None = None
    live: str | None = None
    line: deque[str] = field(default_factory=deque)
    run_count: int = 0
    open_runs: int = 0
    messages: list[bytes] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    expires_ms: int | None = None

    def promote(self) -> str | None:
        """Make the first run in line the live one."""
        self.live = self.line.popleft() if self.line else None
        return self.live

    def enter(self, run_id: str, is_open: Callable[[str], bool]) -> str | None:
        """Put a run in line; the run that has gone live by that, or None when another is live."""
        self.line.append(run_id)
        return None if self.live is not None and is_open(self.live) else self.promote()

    def leave(self, run_id: str, messages: list[bytes], now: int, ttl_ms: int) -> str | None:
        """Take out a run that has ended, keep its messages if it was live; the run that has gone live by that."""
        promoted = None
        if self.live == run_id:
            self.messages += messages
            promoted = self.promote()
        elif run_id in self.line:
            self.line.remove(run_id)
        self.used_ms = now
        self.open_runs -= 1
        if self.open_runs == 0:
            self.expires_ms = now + ttl_ms
        return promoted

    def snapshot(self) -> SessionState:
        return SessionState(
            session_id=self.session_id,
            user_id=self.user_id,
            live_run_id=self.live,
            run_count=self.run_count,
            open_runs=self.open_runs,
            message_count=len(self.messages),
            created_ms=self.created_ms,
            used_ms=self.used_ms,
        )


class MemorySessions:
    """All sessions of a store. Those whose time has passed are gone.

    Threads may share them, one session in one thread at a time: then each has a store of its own.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._sessions: dict[str, MemorySession] = {}
        self._guard = threading.Lock()
        self._expiring = Expiring(self._expires_ms)
        # Nothing of a session, but what stores that see the same conversations share, too.
        self.shared = MemoryShared(now_ms)
        self.spending = Spending(now_ms)
        # User → when their values are forgotten, and the values.
        self._users: dict[str, tuple[int, dict[str, bytes]]] = {}

    def known(self, session_id: str) -> MemorySession | None:
        session = self._sessions.get(session_id)
        return session if session is not None and self._is_alive(session) else None

    def find(self, session_id: str) -> MemorySession:
        """The session. Raises `SessionNotFound`."""
        if session := self.known(session_id):
            return session
        raise SessionNotFound(f"session {session_id!r}: {SessionNotFound().args[0]}")

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        with self._guard:
            self._sessions.pop(session_id, None)

    def user_of(self, session_id: str, user_id: str | None) -> str | None:
        """The user of a run that joins. Raises `SessionConflict` when the session is another's."""
        session = self.known(session_id)
        owner = session.user_id if session else None
        if owner and user_id and owner != user_id:
            raise SessionConflict(f"session {session_id!r}: {SessionConflict().args[0]}")
        return user_id or owner

    def join(self, session_id: str, user_id: str | None) -> MemorySession:
        """Count a new run in."""
        now = self._now_ms()
        with self._guard:
            session = self.known(session_id)
            if session is None:
                session = self._sessions[session_id] = MemorySession(session_id, now, now)
            session.expires_ms = None
        session.user_id = user_id
        session.used_ms = now
        session.run_count += 1
        session.open_runs += 1
        return session

    def leave(self, session: MemorySession, run_id: str, messages: list[bytes], ttl_ms: int) -> str | None:
        """See `MemorySession.leave`."""
        promoted = session.leave(run_id, messages, self._now_ms(), ttl_ms)
        with self._guard:
            self._expiring.note(session.session_id)
        return promoted

    def rejoin(
        self, old: MemorySession, run_id: str, history: int | None, own: int, is_open: Callable[[str], bool]
    ) -> MemorySession:
        """Take a run that had ended and goes on into its session again, as if it had never left.

        `history` is what it saw of the session, None when it never was live: then it is to enter. `own` is how many
        messages it has. Raises `SessionMovedOn` when a later run has started.
        """
        session = self.known(old.session_id)
        if history is not None:
            had = len(session.messages) if session else 0
            is_busy = session is not None and session.live is not None and is_open(session.live)
            if is_busy or had not in (history, history + own):
                raise SessionMovedOn(f"run {run_id}: {SessionMovedOn().args[0]}")
        session = self.join(old.session_id, old.user_id)
        session.run_count -= 1
        if history is not None:
            del session.messages[history:]
            session.live = run_id
        return session

    def values_of_user(self, user_id: str) -> dict[str, bytes]:
        """What is kept for a user; writing to it keeps nothing, see `keep_for_user`."""
        until_ms, values = self._users.get(user_id, (0, {}))
        return values if until_ms > self._now_ms() else {}

    def keep_for_user(self, user_id: str, values: dict[str, bytes], ttl_ms: int) -> None:
        """Keep these values for so long."""
        self._users[user_id] = (self._now_ms() + ttl_ms, values)

    def list(self, which: SessionFilter) -> tuple[SessionState, ...]:
        alive = [each for each in self._alive() if which.user_id in (None, each.user_id)]
        alive.sort(key=lambda each: (each.used_ms, each.session_id), reverse=True)
        return tuple(each.snapshot() for each in alive[which.offset : which.offset + which.limit])

    def prune(self) -> int:
        """Forget the sessions whose time has passed; how many those were."""
        with self._guard:
            gone = self._expiring.pop(self._now_ms())
            for name in gone:
                del self._sessions[name]
            for user_id in [user_id for user_id, (until_ms, _) in self._users.items() if until_ms <= self._now_ms()]:
                del self._users[user_id]
        return len(gone)

    def _expires_ms(self, session_id: str) -> int | None:
        session = self._sessions.get(session_id)
        return session.expires_ms if session else None

    def _alive(self) -> Iterator[MemorySession]:
        return (session for session in self._sessions.values() if self._is_alive(session))

    def _is_alive(self, session: MemorySession) -> bool:
        return session.expires_ms is None or session.expires_ms > self._now_ms()
