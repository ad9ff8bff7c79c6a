"""Random logs of events for the folds of the web: plausible ones, and ones that no worker would write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from agentq.events.fold import Replayer, ranges
from agentq.events.fold import fold as folded
from agentq.events.model import (
    AttemptReset,
    Delta,
    IterationFinished,
    IterationStarted,
    Note,
    ReasoningDelta,
    ReplyCompleted,
    RunAnswered,
    RunCancelledEvent,
    RunCompleted,
    RunFailedEvent,
    RunQueued,
    RunRecovered,
    RunRetried,
    RunStarted,
    RunWaiting,
    TextDelta,
    ToolCalled,
    ToolFailed,
    ToolFinished,
    ToolProgress,
)
from agentq.events.voids import Voids
from agentq.messages import FilePart, NoteKind, Usage

if TYPE_CHECKING:
    from agentq.events.model import Event

# Logs take a while to draw where the machine is busy with other tests.
SOME = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
RUN = "01JD3ZK8W5Q0X9V7T2M4N6P8RA"
FILE = FilePart(url="agentq:abc", media_type="image/png", name="plot.png", size=3)


@dataclass
class Log:
    """The events as who was there all the time saw them, and as they are stored."""

    seen: list[Event] = field(default_factory=list)
    stored: list[Event] = field(default_factory=list)
    # Deltas of the reply that is not complete.
    open: list[Delta] = field(default_factory=list)
    turn: int = 1

    def add(self, event: Event) -> Event:
        seq = len(self.seen) + 1
        event = event.model_copy(update={"run_id": RUN, "seq": seq, "at_ms": 1_000 + seq})
        self.seen.append(event)
        if isinstance(event, TextDelta | ReasoningDelta):
            self.open.append(event)
        self.stored.append(event)
        return event

    def complete(self, *, text: str = "", **more: Any) -> None:
        """The reply is complete: its deltas are folded into it."""
        said = "".join(delta.text for delta in self.open if isinstance(delta, TextDelta))
        thought = "".join(delta.text for delta in self.open if isinstance(delta, ReasoningDelta))
        gone, self.open = self.open, []
        self.stored = [event for event in self.stored if event not in gone]
        self.add(ReplyCompleted(turn=self.turn, text=said or text, reasoning=thought, deltas=folded(gone), **more))
        self.turn += 1

    def reset(self, reason: str = "recovered") -> None:
        """The reply is given up: its deltas are gone."""
        if not self.open:
            return
        gone, self.open = self.open, []
        numbers = {delta.seq for delta in gone}
        first, last = min(numbers), max(numbers)
        self.stored = [event for event in self.stored if event not in gone]
        self.add(
            AttemptReset(
                first=first,
                last=last,
                reason=reason,
                kept=tuple(number for number in range(first, last) if number not in numbers),
                reasoning=ranges(delta for delta in gone if isinstance(delta, ReasoningDelta)),
            )
        )

    def late(self, after: int = 0) -> list[Event]:
        """What somebody gets who comes at the end and has seen the first `after` events."""
        voids = Voids(after)
        read = Replayer(after).feed([event for event in self.stored if event.seq > after], complete=True)
        return [*(each for event in read for each in voids.feed(event)), *voids.rest()]


_USAGE = Usage(input_tokens=40, output_tokens=9)
_TEXTS = st.sampled_from(["a", "bc ", "\u2028", "\U0001f600", "é\n"])
_CALLS = st.integers(0, 3).map(lambda index: f"{RUN}.1.{index}")


@st.composite
def wild_logs(draw: st.DrawFn) -> Log:
    """Any kinds in any order, of few calls, so that they meet; but a reply lives in one claim of the run."""
    log = Log()
    log.add(RunQueued(agent="a", session_id="s"))
    for kind in draw(st.lists(st.sampled_from(sorted(_WILD)), max_size=20)):
        if kind in ("iteration", "iteration over", "asks"):
            log.reset()
        _WILD[kind](log, draw)
    if draw(st.booleans()):
        log.reset()
        _END[draw(st.sampled_from(sorted(_END)))](log, draw)
    return log


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """What workers write: iterations with replies, tools and questions, crashes in between, an end or none yet."""
    log = Log()
    log.add(RunQueued(agent="a", session_id="s"))
    log.add(RunStarted(agent="a"))
    for number in range(draw(st.integers(0, 2))):
        log.add(IterationStarted(iteration=number + 1, worker="w", fence=number))
        while draw(st.integers(0, 3)) == 0:
            _stream(log, draw)
            log.reset("recovered")
            log.add(RunRecovered(recoveries=1))
            log.add(IterationStarted(iteration=number + 1, worker="w", fence=number))
        _stream(log, draw)
        if draw(st.integers(0, 4)) == 0:
            log.reset("provider_error")
            log.add(Note(kind=NoteKind.PROVIDER_ERROR, text="again", errors=1, max_error_retries=3))
            log.add(IterationFinished(iteration=number + 1))
            continue
        log.complete(text=draw(_TEXTS))
        _tools(log, draw)
        log.add(IterationFinished(iteration=number + 1))
    if draw(st.booleans()):
        _END[draw(st.sampled_from(sorted(_END)))](log, draw)
        if draw(st.integers(0, 3)) == 0:
            log.add(RunRetried(retries=1))
            log.add(IterationStarted(iteration=9, worker="w", fence=99))
            _stream(log, draw)
            log.complete()
            _END[draw(st.sampled_from(sorted(_END)))](log, draw)
    return log


def _stream(log: Log, draw: st.DrawFn) -> None:
    for piece in draw(st.lists(st.sampled_from("ttrp"), max_size=4)):
        if piece == "p":
            log.add(ToolProgress(call_id="c", name="n"))
        else:
            text = draw(_TEXTS)
            log.add(TextDelta(text=text) if piece == "t" else ReasoningDelta(text=text))


def _tools(log: Log, draw: st.DrawFn) -> None:
    turn = log.turn - 1
    calls = [f"{RUN}.{turn}.{index}" for index in range(draw(st.integers(0, 3)))]
    asking = [call for call in calls if draw(st.integers(0, 3)) == 0]
    for call in calls:
        if call in asking:
            kind = draw(st.sampled_from(["approval", "input", "outcome", "signal"]))
            log.add(RunWaiting(call_id=call, name="pay", text="may I", kind=kind, arguments={"n": 1}))
        else:
            child = draw(st.sampled_from([None, None, f"CHILD{call[-3:]}"]))
            log.add(ToolCalled(call_id=call, name="add", arguments={"n": 1}, child_run_id=child))
    for call in draw(st.permutations(calls)):
        if call in asking:
            answer: Any = draw(st.sampled_from(["approved", "denied", "input", "expired"]))
            log.add(RunAnswered(call_id=call, name="pay", answer=answer))
            log.add(IterationStarted(iteration=1, worker="w", fence=1))
            if answer == "approved":
                log.add(ToolCalled(call_id=call, name="pay", arguments={"n": 1}))
        if draw(st.booleans()):
            log.add(ToolFinished(call_id=call, name="add", content="16", files=draw(st.sampled_from([(), (FILE,)]))))
        else:
            log.add(ToolFailed(call_id=call, name="add", content="no", outcome="error"))


_END: dict[str, Any] = {
    "completed": lambda log, _: log.add(RunCompleted(output="It is 16.", usage=_USAGE, iterations=2)),
    "failed": lambda log, _: log.add(RunFailedEvent(reason="too many errors", usage=_USAGE)),
    "cancelled": lambda log, _: log.add(RunCancelledEvent(reason="enough")),
}

_WILD: dict[str, Any] = {
    "text": lambda log, draw: log.add(TextDelta(text=draw(_TEXTS))),
    "thought": lambda log, draw: log.add(ReasoningDelta(text=draw(_TEXTS))),
    "complete": lambda log, draw: log.complete(text=draw(_TEXTS)),
    "reset": lambda log, _: log.reset(),
    "iteration": lambda log, _: log.add(IterationStarted(iteration=1, worker="w", fence=1)),
    "iteration over": lambda log, _: log.add(IterationFinished(iteration=1)),
    "call": lambda log, draw: log.add(ToolCalled(call_id=draw(_CALLS), name="add", arguments={"a": 1})),
    "child": lambda log, draw: log.add(ToolCalled(call_id=draw(_CALLS), name="ask", child_run_id=f"C{draw(_CALLS)}")),
    "finished": lambda log, draw: log.add(ToolFinished(call_id=draw(_CALLS), name="add", content="1", data={"n": 1})),
    "failed": lambda log, draw: log.add(ToolFailed(call_id=draw(_CALLS), name="add", content="no")),
    "asks": lambda log, draw: log.add(
        RunWaiting(
            call_id=draw(_CALLS), name="pay", text="?", kind=draw(st.sampled_from(["approval", "input", "child"]))
        )
    ),
    "answered": lambda log, draw: log.add(
        RunAnswered(call_id=draw(_CALLS), name="pay", answer=draw(st.sampled_from(["approved", "denied", "input"])))
    ),
    "note": lambda log, _: log.add(Note(kind=NoteKind.TOOL_ERROR, text="no", errors=1, max_error_retries=3)),
    "retried": lambda log, _: log.add(RunRetried(retries=1)),
}
