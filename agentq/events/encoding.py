"""Events as they are stored and read: without what the stream knows, and with it again."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from agentq.errors import StoreCorrupted
from agentq.events._event import Numbered
from agentq.events.model import Event, FoldedRange, ReasoningDelta, ReplyCompleted, TextDelta

_event: TypeAdapter[Event] = TypeAdapter(Event)
_UNSTORED = {"run_id", "seq", "at_ms"}


class UnknownEvent(Numbered):
    """An event of a kind that this version does not know: a newer worker has written it."""

    type: str


def encode_event(event: Event) -> bytes:
    """The stored form: compact JSON without what the stream adds."""
    return _event.serializer.to_json(event, exclude=_UNSTORED, exclude_none=True)


def decode_event(data: bytes | str, *, run_id: str, seq: int, at_ms: int) -> Event:
    """Read the stored form and add what the stream knows. Raises `StoreCorrupted`.

    One of a kind that is not known is an `UnknownEvent`, which readers pass over.
    """
    event: Any
    try:
        event = _event.validate_json(data)
    except ValidationError as error:
        (problem, *_) = error.errors(include_url=False, include_input=False)
        if problem["type"] != "union_tag_invalid":
            raise StoreCorrupted(f"event {seq} of run {run_id} cannot be read: {error}") from error
        event = UnknownEvent(type=problem["ctx"]["tag"])
    return numbered(event, run_id=run_id, seq=seq, at_ms=at_ms)


def is_known(event: Event) -> bool:
    """Whether it is of a kind that this version knows."""
    return not isinstance(event, UnknownEvent)


def numbered(event: Event, *, run_id: str, seq: int, at_ms: int) -> Event:
    """The event with what the stream knows of it."""
    known: dict[str, Any] = {"run_id": run_id, "seq": seq, "at_ms": at_ms}
    if isinstance(event, ReplyCompleted) and any(folded.first < 0 for folded in event.deltas):
        known["deltas"] = tuple(_absolute(folded, seq, at_ms) for folded in event.deltas)
    return event.model_copy(update=known)


def _absolute(folded: FoldedRange, seq: int, at_ms: int) -> FoldedRange:
    if folded.first >= 0:
        return folded
    return FoldedRange(
        first=seq + folded.first, kind=folded.kind, lengths=folded.lengths, at_ms=(at_ms,) * len(folded.lengths)
    )


# A tuple: a union of types is built anew each time that it is written in a call.
_DELTAS = (TextDelta, ReasoningDelta)


def is_delta(event: Event) -> bool:
    """Whether the event is folded away once its reply is complete."""
    return isinstance(event, _DELTAS)
