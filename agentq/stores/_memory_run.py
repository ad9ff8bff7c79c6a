"""A run as the in-memory store keeps it, and the rules that look at nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.errors import IllegalTransition, LeaseLost
from agentq.events.memory import MemoryLog
from agentq.events.model import RunQueued
from agentq.messages import Message, decode_message, encode_message
from agentq.runs import CHILD, PROMPT_EXCERPT, SCHEMA_VERSION, TRANSITIONS, RunState, Status

if TYPE_CHECKING:
    from agentq.stores._memory_sessions import MemorySession
    from agentq.stores.base import Answer, Appended, Commit, Committed, Lease, NewRun, Released, Signal


# A wake-up gets this long to arrive before a sweep repeats it.
GRACE_MS = 2_000


@dataclass(slots=True)
class MemoryRun:
    """What the store keeps of a run.

    `due_ms` is when a sweep has to look at it, None while it rests; `expires_ms` when it is forgotten. `batch` is the
    last one that the current claim journaled, with its answer.
    """

    state: RunState
    log: MemoryLog
    messages: list[bytes]
    metadata: bytes
    request_hash: str
    due_ms: int | None
    expires_ms: int | None = None
    journal: dict[str, bytes] = field(default_factory=dict)
    batch: tuple[int, Appended] | None = None
    committed: Committed | None = None
    released: tuple[int, Released] | None = None
    answered: tuple[Answer, Released] | None = None
    retried: tuple[int, Released] | None = None
    # Names and values of what people decided on its calls.
    decided: set[tuple[str, bytes]] = field(default_factory=set)
    session: MemorySession | None = None
    # Whether it has taken its place in its session; one that is delayed does so when its time has come.
    has_entered: bool = False
    was_live: bool = False
    # Nothing that it said is to be kept in its session.
    forgets: bool = False
    # Is set when no other run of its session is in the way, or it was cancelled.
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    files: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    # What was sent into it and it has not seen, and the tokens of all that ever was.
    inbox: list[bytes] = field(default_factory=list)
    steered: set[str] = field(default_factory=set)
    # Id → what was signalled, None for one that was taken.
    signals: dict[str, Signal | None] = field(default_factory=dict)
    # What it asked people when webhooks were told last: calls, and numbers of their questions.
    asked: set[tuple[str, int]] = field(default_factory=set)

    @property
    def is_running(self) -> bool:
        return self.state.status is Status.RUNNING

    def is_held(self, now: int) -> bool:
        return self.is_running and self.state.lease_until_ms > now

    def set(self, now: int, **changes: Any) -> None:
        """Change the state. One that somebody paused rests in place of being queued."""
        if changes.get("status") is Status.QUEUED and changes.get("pause", self.state.pause) is not None:
            changes["status"], self.due_ms = Status.PAUSED, None
        self.state = replace(self.state, updated_ms=now, seq=self.log.seq, **changes)

    def line_up(self) -> None:
        """Take a place in the session, behind those that are there."""
        self.has_entered, self.due_ms = True, None
        self.state = replace(self.state, waits_for_session=True)
        self.turn.clear()

    def go_live(self, history_length: int, now: int) -> None:
        """Be the run that the session goes on with; its messages so far are this run's history."""
        self.state = replace(self.state, waits_for_session=False, history_length=history_length)
        self.was_live = True
        self.due_ms = None if self.state.status is Status.PAUSED else now + GRACE_MS
        self.turn.set()

    def snapshot(self) -> RunState:
        """The state, sharing nothing that the reader could change."""
        return replace(
            self.state,
            metadata=_json.loads(self.metadata),
            usage=dict(self.state.usage),
            ttl_ms=dict(self.state.ttl_ms),
        )

    def history(self) -> tuple[Message, ...]:
        """The messages that the session had when the run went live."""
        messages = self.session.messages[: self.state.history_length] if self.session else []
        return tuple(decode_message(data) for data in messages)

    def transcript(self, start: int = 0) -> tuple[Message, ...]:
        return tuple(decode_message(data) for data in self.messages[max(start, 0) :])


def new_memory_run(new: NewRun, user_id: str | None, now: int) -> MemoryRun:
    """A queued run, with its first event."""
    messages = [encode_message(message) for message in new.messages]
    metadata = _json.dumps(_json.checked(dict(new.metadata), field="metadata"))
    log = MemoryLog(new.run_id)
    queued = RunQueued(agent=new.agent, queue=new.queue, session_id=new.session_id, prompt=new.prompt)
    log.write((queued,), at_ms=now)
    not_before = now + new.delay_ms if new.delay_ms else 0
    state = RunState(
        run_id=new.run_id,
        agent=new.agent,
        status=Status.QUEUED,
        prompt=new.prompt[:PROMPT_EXCERPT],
        queue=new.queue,
        model=new.model,
        session_id=new.session_id,
        user_id=user_id,
        not_before_ms=not_before,
        seq=log.seq,
        message_count=len(messages),
        ttl_ms=dict(new.ttl_ms),
        tools=None if new.tools is None else tuple(new.tools),
        without=new.without,
        idempotency_key=new.idempotency_key,
        parent_run_id=new.parent_run_id,
        forked_from=new.forked_from,
        depth=new.depth,
        limits=new.limits,
        concurrency_key=new.concurrency_key,
        concurrency=new.concurrency,
        tenant=new.tenant,
        priority=new.priority,
        created_ms=now,
        updated_ms=now,
    )
    return MemoryRun(state, log, messages, metadata, new.request_hash, not_before or now + GRACE_MS)


def waits_for_child(state: RunState) -> bool:
    """Whether the run rests until another run has ended."""
    return state.status is Status.WAITING and any(question.kind == CHILD for question in state.questions)


def is_claimable(state: RunState, now: int) -> bool:
    """Whether a claim may take the run now."""
    if state.version > SCHEMA_VERSION:
        return False
    if state.status is Status.QUEUED:
        return state.is_cancel_requested or (
            state.not_before_ms <= now and not state.waits_for_session and not state.waits_for_place
        )
    return state.status is Status.RUNNING and state.lease_until_ms <= now


def has_waited(state: RunState, now: int) -> bool:
    """Whether the time has come for a waiting run, whatever it waits for."""
    return state.status is Status.WAITING and 0 < state.not_before_ms <= now


def is_current(run: MemoryRun, lease: Lease) -> bool:
    """Whether `lease` still gives the right to write."""
    return run.is_running and run.state.fence == lease.fence


def is_expired(run: MemoryRun, now: int) -> bool:
    """Whether the time to live has passed."""
    return run.expires_ms is not None and run.expires_ms <= now


def check_lease(run: MemoryRun, lease: Lease) -> None:
    """Raise `LeaseLost` unless `lease` gives the right to write."""
    if not is_current(run, lease):
        raise LeaseLost(f"lease {lease.fence} on run {lease.run_id} is over; the run is at fence {run.state.fence}")


def check_transition(state: RunState, commit: Commit) -> None:
    """Refuse a status that the run cannot get. Raises `IllegalTransition`."""
    if commit.status not in TRANSITIONS[state.status]:
        raise IllegalTransition(f"run {state.run_id} cannot go from {state.status} to {commit.status}")


def error_after(state: RunState, commit: Commit, status: Status) -> str | None:
    """What the run says of its last error after `commit`."""
    if commit.last_error is not None:
        return commit.last_error
    return None if commit.errors == 0 and status is not Status.FAILED else state.last_error
