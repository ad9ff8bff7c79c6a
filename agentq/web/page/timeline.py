"""PURE: the events of a run as entries of a timeline. A fold: the same events always give entries with the same ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, assert_never

from agentq.events import model
from agentq.messages import StopReason, Usage
from agentq.web.page import marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentq.events.model import Event, RunAnswered, RunWaiting
    from agentq.messages import FilePart, Message


@dataclass(slots=True)
class Entry:
    """One entry. `entry_id` is its id in the page; `seq` and `at_ms` are those of the event that it begins with."""

    kind: ClassVar[str] = ""
    entry_id: str
    seq: int
    at_ms: int


@dataclass(slots=True)
class Prompt(Entry):
    """What the run was asked, or what somebody said while it went on."""

    kind: ClassVar[str] = "prompt"
    text: str
    by: str = ""


@dataclass(slots=True)
class Iteration(Entry):
    """The head of an iteration; what stands below it, up to the next, is of it."""

    kind: ClassVar[str] = "iteration"
    number: int
    worker: str
    is_again: bool = False
    model: str | None = None
    usage: Usage | None = None
    duration_ms: int | None = None


@dataclass(slots=True)
class Reply(Entry):
    """What the model says. While `is_open` it still streams."""

    kind: ClassVar[str] = "reply"
    text: str = ""
    reasoning: str = ""
    is_open: bool = True
    is_cut: bool = False


@dataclass(slots=True)
class Call(Entry):
    """A tool call: `outcome` is None while it runs or waits."""

    kind: ClassVar[str] = "call"
    call_id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    child_run_id: str | None = None
    outcome: str | None = None
    content: str = ""
    files: tuple[FilePart, ...] = ()
    duration_ms: int = 0
    progress: str = ""
    fraction: float | None = None
    waits: RunWaiting | None = None
    said: list[RunAnswered] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One word for the card."""
        if self.outcome is not None:
            return self.outcome
        return "waiting" if self.waits is not None else "running"


@dataclass(slots=True)
class Mark(Entry):
    """Anything else, in one line; `tone` is quiet, warn, bad or good. `more` is a longer text below it."""

    kind: ClassVar[str] = "mark"
    tone: str
    icon: str
    text: str
    more: str = ""


@dataclass(slots=True)
class Trimmed(Entry):
    """Events that are gone, and the transcript in their place."""

    kind: ClassVar[str] = "trimmed"
    first: int
    last: int
    messages: tuple[Message, ...]


@dataclass(slots=True)
class Ended(Entry):
    """How the run ended. `text` is its output, or why it has none."""

    kind: ClassVar[str] = "ended"
    status: str
    text: str
    iterations: int
    usage: Usage
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What an event did: entries that are new or other than before, those that are gone, and text added to one."""

    changed: tuple[Entry, ...] = ()
    gone: tuple[str, ...] = ()
    added: tuple[Reply, str, str] | None = None


class Timeline:
    """The fold. `take` the events of one run from its first on, with those of voided deltas."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.cursor = 0
        self._reply: Reply | None = None
        self._iteration: Iteration | None = None
        self._last_text = ""

    def take(self, event: Event) -> Change:
        """Add one event."""
        self.cursor = max(self.cursor, event.seq)
        match event:
            case model.TextDelta() | model.ReasoningDelta():
                return self._delta(event)
            case model.ReplyCompleted():
                return self._replied(event)
            case model.AttemptReset() | model.TextRedacted():
                return self._reset(event)
            case model.ToolCalled() | model.ToolProgress() | model.ToolFinished() | model.ToolFailed():
                return self._call(event)
            case model.RunWaiting() | model.RunAnswered() if event.call_id:
                return self._asked(event)
            case model.IterationFinished():
                return self._finished(event)
            case model.RunStarted():
                return Change()
            case _:
                return self._whole(event)

    def _whole(self, event: Event) -> Change:
        """An entry that no later event changes, apart from the head of an iteration."""
        match event:
            case model.RunQueued():
                return self._put(Prompt(*_begin(event), event.prompt))
            case model.RunSteered():
                return self._put(Prompt(*_begin(event), event.text, event.by))
            case model.IterationStarted():
                return self._started(event)
            case model.RunCompleted() | model.RunFailedEvent() | model.RunCancelledEvent():
                return self._ended(event)
            case model.Gap():
                entry_id = f"gap-{event.first}"
                self._reply = None
                return self._put(Trimmed(entry_id, event.first, event.at_ms, event.first, event.last, event.messages))
            case _:
                tone, icon, text, more = marks.told(event)
                return self._put(Mark(*_begin(event), tone, icon, text, more))

    def _put(self, *entries: Entry, gone: tuple[str, ...] = ()) -> Change:
        for entry in entries:
            self.entries[entry.entry_id] = entry
        return Change(entries, gone)

    def _delta(self, event: model.TextDelta | model.ReasoningDelta) -> Change:
        field_name = "text" if isinstance(event, model.TextDelta) else "reasoning"
        reply = self._reply
        if reply is None:
            reply = self._reply = Reply(*_begin(event))
            setattr(reply, field_name, event.text)
            return self._put(reply)
        before: str = getattr(reply, field_name)
        setattr(reply, field_name, before + event.text)
        if not before:  # its place in the page is made with its first text
            return self._put(reply)
        return Change(added=(reply, field_name, event.text))

    def _started(self, event: model.IterationStarted) -> Change:
        last = self._iteration
        is_again = last is not None and last.number == event.iteration
        self._iteration = Iteration(*_begin(event), event.iteration, event.worker, is_again)
        gone = self._drop_reply()
        return self._put(self._iteration, gone=gone)

    def _finished(self, event: model.IterationFinished) -> Change:
        if self._iteration is None or self._iteration.number != event.iteration:
            return Change()
        self._iteration.duration_ms = event.duration_ms
        return self._put(self._iteration)

    def _replied(self, event: model.ReplyCompleted) -> Change:
        reply, self._reply = self._reply, None
        changed: list[Entry] = []
        if reply is None and (event.text or event.reasoning):
            reply = Reply(*_begin(event))
        if reply is not None:
            reply.text, reply.reasoning = event.text, event.reasoning
            reply.is_open, reply.is_cut = False, event.stop_reason is StopReason.MAX_TOKENS
            changed.append(reply)
        self._last_text = event.text
        if self._iteration is not None:
            self._iteration.model = event.model
            self._iteration.usage = event.usage
            changed.append(self._iteration)
        return self._put(*changed)

    def _reset(self, event: model.AttemptReset | model.TextRedacted) -> Change:
        gone = self._drop_reply()
        if not gone:
            return Change()
        text = "the reply was started again" if isinstance(event, model.AttemptReset) else "a hook changed the reply"
        reason = event.reason if isinstance(event, model.AttemptReset) and event.reason != "redacted" else ""
        return self._put(Mark(*_begin(event), "quiet", "again", text, reason), gone=gone)

    def _drop_reply(self) -> tuple[str, ...]:
        """Take away a reply that will not be completed."""
        reply, self._reply = self._reply, None
        if reply is None:
            return ()
        del self.entries[reply.entry_id]
        return (reply.entry_id,)

    def _card(self, event: Any) -> Call:
        entry_id = f"call-{event.call_id.replace('.', '-')}"
        found = self.entries.get(entry_id)
        if isinstance(found, Call):
            return found
        return Call(entry_id, event.seq, event.at_ms, event.call_id, event.name)

    def _call(self, event: model.ToolCalled | model.ToolProgress | model.ToolFinished | model.ToolFailed) -> Change:
        call = self._card(event)
        match event:
            case model.ToolCalled():
                call.arguments, call.attempt, call.outcome = event.arguments, event.attempt, None
                call.child_run_id = event.child_run_id or call.child_run_id
                call.waits = None
            case model.ToolProgress():
                call.progress, call.fraction = event.message, event.fraction
            case model.ToolFinished():
                call.outcome, call.content, call.files = "ok", event.content, event.files
                call.duration_ms, call.waits = event.duration_ms, None
            case model.ToolFailed():
                call.outcome, call.content = event.outcome, event.content
                call.duration_ms, call.waits = event.duration_ms, None
            case _:
                assert_never(event)
        return self._put(call)

    def _asked(self, event: RunWaiting | RunAnswered) -> Change:
        call = self._card(event)
        if isinstance(event, model.RunWaiting):
            call.waits = event
            call.arguments = event.arguments or call.arguments
        else:
            call.waits = None
            call.said.append(event)
            call.arguments = event.arguments or call.arguments
        return self._put(call)

    def _ended(self, event: model.FinalEvent) -> Change:
        gone = self._drop_reply() if isinstance(event, model.RunCompleted) else ()
        changed: list[Entry] = []
        if self._reply is not None:  # what a cancelled run had said is kept
            self._reply.is_open = False
            changed.append(self._reply)
            self._reply = None
        status = event.type.removeprefix("run.")
        text = event.output if isinstance(event, model.RunCompleted) else event.reason
        is_told = isinstance(event, model.RunCompleted) and text == self._last_text
        changed.append(Ended(*_begin(event), status, text, event.iterations, event.usage, is_told))
        return self._put(*changed, gone=gone)


def _begin(event: Event) -> tuple[str, int, int]:
    return f"e{event.seq}", event.seq, event.at_ms
