"""What the contract suites share: short ways to make runs, claims, commits, and to compare what is stored."""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentq._ids import call_id, new_run_id, new_token
from agentq.events.fold import fold, ranges
from agentq.events.model import Delta, Event, ReasoningDelta, ReplyCompleted, TextDelta
from agentq.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart, results_message, user_message
from agentq.runs import RunState, Status
from agentq.stores.base import Claim, Commit, EventBatch, NewRun, Store

if TYPE_CHECKING:
    from agentq.events.stream import EventStream

PassTime = Callable[[float], Awaitable[object]]

# Long enough that no test outlives it by accident, and the shortest that settings allow.
LEASE_MS = 60_000
SHORT_MS = 300
# Past a lease of SHORT_MS.
SHORT_LEASE_S = 0.4
# Past the grace that a wake-up gets before a sweep repeats it.
GRACE_S = 2.5
TTL_MS = 600_000


@dataclass(frozen=True)
class Stored:
    """Everything of a run that can be read."""

    run: RunState
    messages: tuple[Message, ...]
    events: tuple[Event, ...]


async def stored(store: Store, stream: EventStream, run_id: str) -> Stored:
    return Stored(await store.read(run_id), await store.messages(run_id), tuple(await events_of(stream, run_id)))


async def events_of(stream: EventStream, run_id: str, *, after: int = 0) -> list[Event]:
    """The events past `after`, up to the last one stored."""
    return [event async for event in stream.follow(run_id, after=after, live=False)]


def types_of(events: list[Event] | tuple[Event, ...]) -> list[str]:
    return [event.type for event in events]


def new_run(prompt: str = "Take 7 + 9.", **fields: Any) -> NewRun:
    given: dict[str, Any] = {"run_id": new_run_id(), "agent": "calculator", "messages": (user_message(prompt),)}
    return NewRun(**given | fields)


async def queued(store: Store, **fields: Any) -> str:
    """The id of a new run."""
    created = await store.create(new_run(**fields))
    return created.run_id


async def claimed(store: Store, run_id: str, *, owner: str = "worker-1", lease_ms: int = LEASE_MS) -> Claim:
    claims = await try_claim(store, run_id, owner=owner, lease_ms=lease_ms)
    assert len(claims) == 1, f"run {run_id} cannot be claimed: {await store.read(run_id)}"
    return claims[0]


async def try_claim(
    store: Store, *run_ids: str, owner: str = "worker-1", lease_ms: int = LEASE_MS
) -> tuple[Claim, ...]:
    return await store.claim(run_ids, owner=owner, claim_id=new_token(), lease_ms=lease_ms)


async def running(store: Store, *, owner: str = "worker-1", lease_ms: int = LEASE_MS, **fields: Any) -> Claim:
    """A new run, claimed."""
    return await claimed(store, await queued(store, **fields), owner=owner, lease_ms=lease_ms)


def batch(number: int, *events: Event, replaced: tuple[tuple[int, int], ...] = ()) -> EventBatch:
    return EventBatch(number=number, events=events, fold=replaced)


def deltas_of(events: Iterable[Event]) -> list[Delta]:
    """Those of `events` that are deltas."""
    return [event for event in events if isinstance(event, TextDelta | ReasoningDelta)]


def texts(*pieces: str) -> tuple[TextDelta, ...]:
    return tuple(TextDelta(text=piece) for piece in pieces)


def completed(deltas: Sequence[Delta], *, turn: int = 1) -> ReplyCompleted:
    """The event into which the numbered `deltas` are folded."""
    return ReplyCompleted(
        turn=turn,
        text="".join(delta.text for delta in deltas if isinstance(delta, TextDelta)),
        reasoning="".join(delta.text for delta in deltas if not isinstance(delta, TextDelta)),
        deltas=fold(deltas),
    )


async def fold_batch(stream: EventStream, run_id: str, number: int) -> EventBatch:
    """The batch that folds every delta of the run that is stored as such."""
    deltas = deltas_of(await events_of(stream, run_id))
    return batch(number, completed(deltas), replaced=ranges(deltas))


def reply_message(text: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),))


def calls_message(run_id: str, *names: str, turn: int = 1) -> Message:
    """A reply that asks for the tools `names`."""
    calls = (ToolCallPart(call_id=call_id(run_id, turn, index), name=name) for index, name in enumerate(names))
    return Message(role=Role.ASSISTANT, parts=tuple(calls))


def answers_message(reply: Message) -> Message:
    """The results of all calls of `reply`."""
    return results_message(
        ToolResultPart(call_id=call.call_id, name=call.name, content="16") for call in reply.tool_calls
    )


def commit_of(claim: Claim, status: Status = Status.QUEUED, *messages: Message, **fields: Any) -> Commit:
    """The commit of a turn that made progress."""
    given: dict[str, Any] = {
        "status": status,
        "messages": messages,
        "batch": batch(1),
        "iteration": claim.run.iteration + 1,
        "turn": claim.run.turn + 1,
        "errors": 0,
        "usage": claim.run.usage,
        "signals_seen": claim.run.signals,
        "ttl_ms": TTL_MS if status.is_final else 0,
    }
    return Commit(**given | fields)
