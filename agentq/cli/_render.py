"""Draws the events of one run for a person. Knows events and a page; neither clients nor stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from agentq.cli import _questions, _words
from agentq.cli._output import PIPE_WIDTH, Output, clip, count, duration, one_line, printable
from agentq.cli._page import Page
from agentq.events.limits import LimitReached, LimitsChanged
from agentq.events.model import (
    AttemptReset,
    CancelRequestedEvent,
    ContextCompacted,
    ContextRetrieved,
    DataLostEvent,
    Event,
    FinalEvent,
    Gap,
    IterationFinished,
    IterationStarted,
    ModelReplaced,
    ModelRetried,
    Note,
    ReasoningDelta,
    ReplyCompleted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunDelayed,
    RunFailedEvent,
    RunPaused,
    RunQueued,
    RunRecovered,
    RunReleased,
    RunResumed,
    RunRetried,
    RunStarted,
    RunSteered,
    RunWaiting,
    TextDelta,
    TextRedacted,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.messages import NoteKind, StopReason

# Where each step of a tool's progress is a line of its own.
_PROGRESS_EVERY_MS = 1000
_ENDS = {
    "run.completed": ("✓ completed", "green"),
    "run.failed": ("✗ failed", "red"),
    "run.cancelled": ("⊘ cancelled", "yellow"),
}


@dataclass
class _Seen:
    """What the renderer has to remember of a run."""

    # False when the events do not begin with the run's first: then totals are not known.
    from_start: bool = False
    created_ms: int | None = None
    prompt: str = ""
    worker: str = ""
    iteration: int = 0
    cancel_reason: str = ""
    # Whether anything of the reply that is not complete yet was shown.
    is_reply_open: bool = False
    has_streamed: bool = False
    calls: set[str] = field(default_factory=set)
    running: dict[str, ToolCalled] = field(default_factory=dict)
    # By call: when progress was written last, and what has come since then.
    told_ms: dict[str, int] = field(default_factory=dict)
    untold: dict[str, ToolProgress] = field(default_factory=dict)


class Renderer:
    """Draws events as they come. `full` shortens nothing; `created_ms` is when the run began, where that is known."""

    def __init__(
        self,
        out: Output,
        *,
        label: str = "",
        colour: str = "cyan",
        timestamps: bool = False,
        full: bool = False,
        names_workers: bool = True,
        created_ms: int | None = None,
    ) -> None:
        self._out = out
        self._page = Page(out, label=label, colour=colour, timestamps=timestamps)
        self._full = full
        self._names_workers = names_workers
        self._seen = _Seen(created_ms=created_ms)

    def close(self) -> None:
        """End an open line, so that something else can be printed."""
        self._tell_rest()
        self._page.close()

    def show(self, event: Event) -> None:  # noqa: C901 - one arm per kind of event
        """Draw one event."""
        self._page.at_ms = event.at_ms
        match event:
            case RunQueued():
                self._queued(event)
            case RunStarted():
                pass  # the first iteration begins with it
            case IterationStarted():
                self._iteration(event)
            case TextDelta():
                self._text(event.text)
            case ReasoningDelta():
                self._reasoning(event.text)
            case ReplyCompleted():
                self._reply(event)
            case ModelRetried() | ModelReplaced():
                self._model_failed(event)
            case ContextRetrieved():
                self._retrieved(event)
            case ContextCompacted():
                self._compacted(event)
            case AttemptReset() | TextRedacted():
                self._reset(event)
            case ToolCalled():
                self._called(event)
            case ToolProgress():
                self._progress(event)
            case ToolFinished() | ToolFailed():
                self._result(event)
            case Note():
                self._note(event)
            case RunRecovered() | RunReleased() | RunDelayed() | RunRetried() | DataLostEvent():
                self._marker(event)
            case RunPaused() | RunResumed() | RunSteered() | CancelRequestedEvent():
                self._steered(event)
            case LimitReached() | LimitsChanged():
                self._limits(event)
            case RunWaiting() | RunAnswered():
                self._question(event)
            case IterationFinished():
                self._page.close()
            case RunCompleted() | RunFailedEvent() | RunCancelledEvent():
                self._final(event)
            case Gap():
                self._gap(event)
            case _:
                assert_never(event)

    def _limit(self, taken: int) -> int | None:
        """How long a text may be on a line where `taken` columns are in use."""
        if self._full:
            return None
        room = self._page.room
        return max((PIPE_WIDTH if room is None else room) - taken, 10)

    def _queued(self, event: RunQueued) -> None:
        self._seen.from_start = event.seq <= 1
        self._seen.created_ms = event.at_ms
        self._seen.prompt = event.prompt
        prompt = clip(one_line(event.prompt), self._limit(len(event.agent) + 2))
        self._page.line(f"{self._page.style(event.agent, 'bold')}: {prompt}")

    def _iteration(self, event: IterationStarted) -> None:
        """Mark the iteration; name the worker whenever it is another."""
        again = " again" if event.iteration == self._seen.iteration else ""
        parts = [f"iteration {event.iteration}{again}"]
        if self._names_workers and event.worker != self._seen.worker:
            parts.append(f"worker {event.worker}")
        self._seen.iteration, self._seen.worker = event.iteration, event.worker
        self._page.line(self._page.style("· " + " · ".join(parts), "dim"))

    def _text(self, text: str) -> None:
        self._seen.is_reply_open = self._seen.has_streamed = True
        self._page.stream(printable(text))

    def _reasoning(self, text: str) -> None:
        self._seen.is_reply_open = self._seen.has_streamed = True
        self._page.stream(printable(text), "dim", marker="~ ")

    def _reply(self, event: ReplyCompleted) -> None:
        """End the reply; show its text if it did not come piece by piece."""
        if not self._seen.has_streamed and not event.deltas:
            self._page.stream(printable(event.reasoning), "dim", marker="~ ")
            self._page.stream(printable(event.text))
        self._page.close()
        self._seen.is_reply_open = self._seen.has_streamed = False
        if event.stop_reason is StopReason.MAX_TOKENS:
            self._page.line(self._page.style("! cut off: the model reached its token limit", "yellow"))

    def _reset(self, event: AttemptReset | TextRedacted) -> None:
        """Say that what was shown of a reply is void; a viewer who came later was shown nothing of it."""
        self._tell_rest()
        self._page.close()
        if isinstance(event, TextRedacted):
            self._page.line(self._page.style("↺ a hook changed the reply; this is what is kept:", "dim"))
        elif self._seen.is_reply_open and event.reason != "redacted":
            reason = f": {one_line(event.reason)}" if event.reason else ""
            self._page.line(self._page.style(f"↺ the reply was started again{reason}", "dim"))
        self._seen.is_reply_open = self._seen.has_streamed = False
        self._seen.running.clear()

    def _model_failed(self, event: ModelRetried | ModelReplaced) -> None:
        """Say that the model is asked again, or another one in its place."""
        self._page.close()
        if isinstance(event, ModelRetried):
            words = f"asking {event.model} again in {duration(event.wait_ms)} (attempt {event.attempt})"
        else:
            words = f"asking {event.by} in place of {event.model}"
        self._page.line(self._page.style(f"! {words}: {one_line(event.reason)}", "yellow"))

    def _retrieved(self, event: ContextRetrieved) -> None:
        """Say what was found for the model to read."""
        self._page.close()
        if event.error:
            self._page.line(self._page.style(f"! no passages: {one_line(event.error)}", "yellow"))
            return
        sources = ", ".join(dict.fromkeys(passage.source for passage in event.passages if passage.source))
        words = f"found {count(len(event.passages), 'passage')}" + (f": {one_line(sources)}" if sources else "")
        self._page.line(self._page.style(f"· {clip(words, self._limit(2))}", "dim"))

    def _compacted(self, event: ContextCompacted) -> None:
        """Say that the model reads less from here on."""
        self._page.close()
        sizes = f"about {event.tokens_before} tokens → {event.tokens_after}"
        counts = f"{count(event.messages_before, 'message')} → {event.messages_after}"
        words = f"context: {_words.COMPACTIONS.get(event.strategy, event.strategy)} ({sizes}, {counts})"
        self._page.line(self._page.style(f"· {words}", "dim"))

    def _called(self, event: ToolCalled) -> None:
        self._seen.is_reply_open = True
        self._seen.calls.add(event.call_id)
        self._seen.running[event.call_id] = event
        attempt = f"  attempt {event.attempt}" if event.attempt > 1 else ""
        if event.child_run_id is not None:
            attempt = f"  run {event.child_run_id}"
        words = _words.call(event.name, event.arguments, self._limit(2 + len(attempt)))
        name, bracket, rest = words.partition("(")
        arrow, bold = self._page.style("→", "cyan"), self._page.style(name, "bold")
        self._page.line(f"{arrow} {bold}{bracket}{rest}{self._page.style(attempt, 'yellow')}")

    def _progress(self, event: ToolProgress) -> None:
        """Show how far a call is; where lines stay, once a second, and the last of it in any case."""
        seen = self._seen
        last_ms = seen.told_ms.get(event.call_id)
        if not self._page.can_replace and last_ms is not None and event.at_ms - last_ms < _PROGRESS_EVERY_MS:
            seen.untold[event.call_id] = event
            return
        seen.told_ms[event.call_id] = event.at_ms
        seen.untold.pop(event.call_id, None)
        self._draw_progress(event)

    def _tell_rest(self, call_id: str | None = None) -> None:
        """Write the progress that was held back, of one call or of all."""
        untold = self._seen.untold
        now_ms = self._page.at_ms
        for held in [call_id] if call_id else list(untold):
            if event := untold.pop(held, None):
                self._page.at_ms = self._seen.told_ms[held] = event.at_ms
                self._draw_progress(event)
        self._page.at_ms = now_ms

    def _draw_progress(self, event: ToolProgress) -> None:
        share = "" if event.fraction is None else f"  {event.fraction:.0%}"
        message = f"  {one_line(event.message)}" if event.message else ""
        self._page.replaceable(f"⋯ {one_line(event.name)}{share}{message}")

    def _result(self, event: ToolFinished | ToolFailed) -> None:
        self._tell_rest(event.call_id)
        label = self._label_of(event)
        self._seen.calls.add(event.call_id)
        self._seen.running.pop(event.call_id, None)
        took = f"  {duration(event.duration_ms)}" if event.duration_ms else ""
        if isinstance(event, ToolFinished):
            label = f"{label}: " if label else ""
            text = _words.result(event.content, event.files, self._limit(2 + len(label) + len(took)))
            arrow, dim = self._page.style("←", "green"), self._page.style(label, "dim")
            self._page.line(f"{arrow} {dim}{text}{self._page.style(took, 'dim')}")
            for file in event.files:
                self._page.line(_words.file(file, self._out, "  "))
        else:
            outcome = "" if event.outcome == "error" else f" ({event.outcome})"
            label = f"{label or event.name}{outcome}: "
            text = _words.content(event.content, self._limit(2 + len(label) + len(took)))
            self._page.line(self._page.style(f"✗ {label}{text}", "red") + self._page.style(took, "dim"))

    def _label_of(self, event: ToolFinished | ToolFailed) -> str:
        """What a result must say to be told from the results of other calls that run at the same time."""
        called = self._seen.running.get(event.call_id)
        if called is None:
            return event.name
        if len(self._seen.running) == 1:
            return ""
        names = [other.name for other in self._seen.running.values()]
        return event.name if names.count(event.name) == 1 else _words.call(called.name, called.arguments, 40)

    def _note(self, event: Note) -> None:
        again = f", again in {duration(event.delay_ms)}" if event.delay_ms else ""
        counted = f"failure {event.errors} of {event.max_error_retries}{again}"
        if event.kind is NoteKind.TOOL_ERROR:  # what failed stands in the line before
            self._page.line(self._page.style(f"! the model was told; {counted}", "dim"))
            return
        text = _words.content(event.text, self._limit(6 + len(counted)))
        self._page.line(self._page.style(f"! {text}", "yellow") + self._page.style(f"  ({counted})", "dim"))

    def _limits(self, event: LimitReached | LimitsChanged) -> None:
        if isinstance(event, LimitsChanged):
            limits = ", ".join(f"{name}={value}" for name, value in event.limits.items()) or "none"
            self._page.line(self._page.style(f"↻ limits given{_words.by(event.by)}: {one_line(limits)}", "dim"))
            return
        words = f"{event.of} has reached its limit {event.limit}={event.allowed:g}, {event.used:g} used"
        if event.on_reached == "wait":
            words += f"; it waits {duration(event.within_ms)}" if event.within_ms else "; it waits until it is raised"
        self._page.line(self._page.style(f"! {words}", "yellow"))

    def _marker(self, event: RunRecovered | RunReleased | RunDelayed | RunRetried | DataLostEvent) -> None:
        match event:
            case RunRecovered():
                lost = f"worker {event.previous_owner}" if event.previous_owner else "the worker"
                self._page.line(self._page.style(f"↻ {lost} was lost, another goes on", "yellow"))
            case RunReleased():
                self._page.line(self._page.style(f"» worker {event.worker} shuts down, another goes on", "dim"))
            case RunDelayed():
                words = f"» waits {duration(event.delay_ms)}: {one_line(event.reason)}"
                self._page.line(self._page.style(words, "dim"))
            case RunRetried():
                self._page.line(self._page.style(f"↻ taken up again{_words.by(event.by)}", "yellow"))
            case DataLostEvent():
                self._page.line(self._page.style("! Redis has lost a part of what was done here", "red"))

    def _steered(self, event: RunPaused | RunResumed | RunSteered | CancelRequestedEvent) -> None:
        match event:
            case RunPaused():
                who, why = _words.by(event.by), f": {one_line(event.reason)}" if event.reason else ""
                self._page.line(self._page.style(f"‖ paused{who}{why}", "yellow"))
            case RunSteered():
                who = f"{one_line(event.by)}: " if event.by else ""
                for line in printable(event.text).rstrip("\n").split("\n"):
                    self._page.line(self._page.style(f"> {who}{line}", "bold"))
                    who = ""
            case RunResumed():
                self._page.line(self._page.style(f"» resumed{_words.by(event.by)}", "dim"))
            case CancelRequestedEvent():
                self._seen.cancel_reason = event.reason
                reason = f": {one_line(event.reason)}" if event.reason else ""
                self._page.line(self._page.style(f"⊘ cancel requested{_words.by(event.by)}{reason}", "yellow"))

    def _question(self, event: RunWaiting | RunAnswered) -> None:
        if isinstance(event, RunAnswered):
            self._page.line(self._page.style(f"» {_questions.said(event)}", "dim"))
            return
        what, how = _questions.asked(event, self._limit(40))
        self._page.line(self._page.style(what, "yellow"))
        self._page.line(self._page.style(f"  {how}", "yellow"))

    def _final(self, event: FinalEvent) -> None:
        word, colour = _ENDS[event.type]
        self._tell_rest()
        self._page.close()
        if not isinstance(event, RunCompleted) and event.reason not in ("", self._seen.cancel_reason):
            self._page.line(self._page.style(f"! {_words.content(event.reason)}", colour))
        seen = self._seen
        if isinstance(event, RunCompleted) and seen.prompt and event.output == seen.prompt:
            self._echo(seen.prompt)
        figures = _words.figures(
            iterations=event.iterations,
            tools=len(seen.calls) if seen.from_start else None,
            usage=event.usage,
            elapsed_ms=None if seen.created_ms is None else event.at_ms - seen.created_ms,
        )
        self._page.line(f"{self._page.style(word, colour, 'bold')}{self._page.style(f' · {figures}', 'dim')}")

    def _echo(self, prompt: str) -> None:
        """The mock model gave the prompt back; say so where a script was meant."""
        if why := _words.unread_script(prompt):
            hint = f"! an echo: the first line is no line of a mock script: {why}"
            self._page.line(self._page.style(hint, "yellow"))

    def _gap(self, event: Gap) -> None:
        self._seen.is_reply_open = self._seen.has_streamed = False
        which = f"event {event.first} was" if event.first == event.last else f"events {event.first}-{event.last} were"
        self._page.line(self._page.style(f"… {which} trimmed; the transcript so far:", "yellow"))
        for line in _words.transcript(event.messages, self._out, width=self._limit(0)):
            self._page.line(line)
