"""PURE: events that are one line of the timeline, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq._words import count, duration
from agentq.events import model
from agentq.events.limits import LimitReached, LimitsChanged
from agentq.messages import NoteKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.events.model import Event

# What was done to make a transcript fit.
COMPACTIONS: Mapping[str, str] = {
    "tool_results": "old results cut",
    "whitespace": "white space in old results collapsed",
    "summary": "old messages summed up",
    "dropped": "old messages left out",
}
_SAID: Mapping[str, str] = {
    "result": "gave its result",
    "did_not_happen": "says it did not happen",
    "unknown": "says it cannot be known",
    "approved": "allowed it",
    "denied": "denied it",
    "expired": "nobody said it in time",
    "input": "answered",
    "signal": "sent the signal",
}


def told(event: Event) -> tuple[str, str, str, str]:
    """The tone, the icon, the line, and what stands below it."""
    match event:
        case model.Note():
            return _note(event)
        case model.ModelRetried():
            text = f"Asking {event.model} again in {duration(event.wait_ms)}, attempt {event.attempt}"
            return "warn", "again", text, event.reason
        case model.ModelReplaced():
            return "warn", "again", f"Asking {event.by} in place of {event.model}", event.reason
        case model.ContextRetrieved():
            return _retrieved(event)
        case model.ContextCompacted():
            sizes = f"about {event.tokens_before:,} tokens became {event.tokens_after:,}"
            return "quiet", "context", f"Context: {COMPACTIONS.get(event.strategy, event.strategy)}, {sizes}", ""
        case LimitReached() | LimitsChanged():
            return _limits(event)
        case model.RunWaiting():
            return "warn", "waiting", event.text, ""
        case model.RunAnswered():
            return "quiet", "person", f"{event.by or 'Somebody'} {said(event)}", event.reason
        case model.CancelRequestedEvent():
            return "warn", "cancel", "Somebody asked to cancel it", event.reason
        case _:
            return _moved(event)


def _moved(event: Event) -> tuple[str, str, str, str]:
    match event:
        case model.RunRecovered():
            lost = f"Worker {event.previous_owner}" if event.previous_owner else "The worker"
            return "warn", "again", f"{lost} was lost; another goes on", ""
        case model.RunReleased():
            return "quiet", "again", f"Worker {event.worker} shuts down; another goes on", ""
        case model.RunDelayed():
            return "quiet", "waiting", f"Waits {duration(event.delay_ms)}", event.reason
        case model.RunRetried():
            return "warn", "again", "Taken up again", ""
        case model.RunPaused():
            return "warn", "paused", f"Paused{_by(event.by)}", event.reason
        case model.RunResumed():
            return "quiet", "person", f"Resumed{_by(event.by)}", ""
        case model.DataLostEvent():
            more = "A call with an effect may be among it." if event.unsure else ""
            return "bad", "failed", "Redis has lost a part of what was done here", more
        case _:
            return "quiet", "context", event.type, ""


def said(event: model.RunAnswered) -> str:
    """What somebody said, after their name: `allowed it`."""
    words = _SAID.get(event.answer, event.answer)
    return f"{words} {event.name}" if event.answer == "signal" else words


def _by(name: str) -> str:
    return f" by {name}" if name else ""


def _note(event: model.Note) -> tuple[str, str, str, str]:
    again = f", goes on in {duration(event.delay_ms)}" if event.delay_ms else ""
    counted = f"failure {event.errors} of {event.max_error_retries}{again}"
    what = "The model was told" if event.kind is NoteKind.TOOL_ERROR else event.kind.replace("_", " ").capitalize()
    return "warn", "note", f"{what}: {counted}", event.text


def _retrieved(event: model.ContextRetrieved) -> tuple[str, str, str, str]:
    if event.error:
        return "warn", "note", "No passages were found for the model", event.error
    passages = [f"{passage.source}: {passage.text}" if passage.source else passage.text for passage in event.passages]
    text = f"Found {count(len(event.passages), 'passage')} in {duration(event.duration_ms)}"
    return "quiet", "context", text, "\n\n".join(passages)


def _limits(event: LimitReached | LimitsChanged) -> tuple[str, str, str, str]:
    if isinstance(event, LimitsChanged):
        limits = ", ".join(f"{name}={value}" for name, value in event.limits.items()) or "none"
        return "quiet", "person", f"Its limits are now: {limits}", ""
    text = f"{event.of} has reached {event.limit}={event.allowed:g}, with {event.used:g} used"
    if event.on_reached == "wait":
        text += f"; waits {duration(event.within_ms)}" if event.within_ms else "; waits until it is raised"
    return "warn", "waiting", text, ""
