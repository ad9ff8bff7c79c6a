"""From a decision to end an iteration to the commit that the store takes: messages, counters, events. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentq.events.model import (
    Event,
    IterationFinished,
    Note,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    ToolFailed,
)
from agentq.limits import Spent
from agentq.loop.limiting import told_of
from agentq.messages import Message, Role, Usage
from agentq.runs import RunState, Status
from agentq.stores.base import Commit, EventBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentq.decide import Finish
    from agentq.limits import Meter
    from agentq.settings import Settings
    from agentq.stores.values import Change


@dataclass(frozen=True, slots=True)
class TimesToLive:
    """How long a run is kept when it has ended: its own word first, then its agent's, then the settings'."""

    run: Mapping[str, int]
    agent: Mapping[str, int]
    settings: Settings

    def of(self, status: Status) -> int:
        """In milliseconds."""
        return self.run.get(status) or self.agent.get(status) or self.settings.ttl_ms(status)


def turn_events(
    finish: Finish, run: RunState, *, told: frozenset[str], max_error_retries: int, duration_ms: int
) -> tuple[Event, ...]:
    """What viewers hear of the end of an iteration. `told` are the calls whose end they have heard of."""
    events: list[Event] = [
        ToolFailed(call_id=result.call_id, name=result.name, content=result.content, outcome=result.outcome)
        for message in finish.messages
        for result in message.tool_results
        if result.outcome != "ok" and result.call_id not in told
    ]
    if finish.note is not None:
        events.append(
            Note(
                kind=finish.note,
                text=finish.reason or "",
                errors=finish.errors,
                max_error_retries=max_error_retries,
                delay_ms=finish.delay_ms,
            )
        )
    if finish.reached is not None:
        events.append(told_of(finish.reached))
    events.append(IterationFinished(iteration=run.iteration + 1, duration_ms=duration_ms))
    return tuple(events)


def commit_of(
    finish: Finish,
    run: RunState,
    transcript: Sequence[Message],
    batch: EventBatch,
    *,
    reply: Message | None,
    left: Message | None = None,
    ttl: TimesToLive,
    is_journaled: bool = False,
    changes: tuple[Change, ...] = (),
    meters: tuple[Meter, ...] = (),
) -> Commit:
    """The commit that a decision amounts to. `reply` is the model's, for its usage; it counts as a turn.

    `left` is one that stays in the journal: what it took is counted now, and not again by the commit that takes it up.
    A summary that the messages hold is counted too.
    """
    before = Usage(**run.usage)
    usage = before
    said = reply or left
    if said is not None and run.counted != run.turn + 1:
        usage += said.usage or Usage()
    for message in finish.messages:
        if message.compacted is not None:
            usage += message.usage or Usage()
    return Commit(
        status=finish.status,
        messages=finish.messages,
        batch=batch,
        iteration=finish.iteration,
        turn=run.turn + (reply is not None),
        errors=finish.errors,
        usage=usage.model_dump(exclude_defaults=True),
        signals_seen=run.signals,
        closing=_closing(finish, transcript, usage),
        last_error=finish.reason if finish.status is not Status.CANCELLED else None,
        delay_ms=finish.delay_ms,
        ttl_ms=ttl.of(finish.status) if finish.status.is_final else 0,
        session_ttl_ms=ttl.settings.session_ttl_ms,
        reply_in_journal=reply if is_journaled and reply in finish.messages else None,
        changes=changes,
        counted=run.turn + 1 if left is not None else 0,
        meters=meters,
        spent=Spent(
            tokens=usage.total_tokens - before.total_tokens,
            cost_nanousd=(usage.cost_nanousd or 0) - (before.cost_nanousd or 0),
            iterations=finish.iteration - run.iteration,
        ),
    )


def _closing(finish: Finish, transcript: Sequence[Message], usage: Usage) -> tuple[Event, ...]:
    match finish.status:
        case Status.COMPLETED:
            output = output_of((*transcript, *finish.messages))
            return (RunCompleted(output=output, usage=usage, iterations=finish.iteration),)
        case Status.FAILED:
            return (RunFailedEvent(reason=finish.reason or "", usage=usage, iterations=finish.iteration),)
        case Status.CANCELLED:
            return (RunCancelledEvent(reason=finish.reason or "", usage=usage, iterations=finish.iteration),)
        case _:
            return ()


def output_of(messages: Sequence[Message]) -> str:
    """The answer of a run: the text of its last reply."""
    return next((message.text for message in reversed(messages) if message.role is Role.ASSISTANT), "")
