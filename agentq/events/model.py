"""The vocabulary of events, as one discriminated union.

An event is stored as JSON without `seq`, `at_ms` and `run_id`; the store gives the first two, the stream adds the rest.
`text.delta` and `reasoning.delta` are transient: once their reply is complete they live on in `reply.completed`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agentq.events._event import Numbered as _Event
from agentq.events.context import ContextCompacted as ContextCompacted
from agentq.events.context import ContextRetrieved as ContextRetrieved
from agentq.events.context import FoundPassage as FoundPassage
from agentq.events.limits import LimitReached as LimitReached
from agentq.events.limits import LimitsChanged as LimitsChanged
from agentq.messages import Data, FilePart, Lean, Message, NoteKind, StopReason, Usage


class RunQueued(_Event):
    """The run was accepted."""

    type: Literal["run.queued"] = "run.queued"
    agent: str
    queue: str = "default"
    session_id: str | None = None
    prompt: str = ""


class RunStarted(_Event):
    """A worker claimed the run for the first time."""

    type: Literal["run.started"] = "run.started"
    agent: str
    worker: str = ""


class IterationStarted(_Event):
    """A worker claimed the run and goes on with it."""

    type: Literal["iteration.started"] = "iteration.started"
    iteration: int
    worker: str
    fence: int


class TextDelta(_Event):
    """A piece of the reply's text, as it streams."""

    type: Literal["text.delta"] = "text.delta"
    text: str


class ReasoningDelta(_Event):
    """A piece of the model's reasoning, as it streams."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class FoldedRange(Data):
    """Deltas `first`, `first + 1`, … of one kind, which the fold replaced: their lengths in code points and times.

    As a worker writes it, `first` may be relative: -2 is two before the event that holds the range, for deltas of the
    same batch; then `at_ms` is empty and means the event's own time. Readers get absolute numbers and times.
    """

    first: int
    kind: Literal["text", "reasoning"]
    lengths: tuple[int, ...]
    at_ms: tuple[int, ...]


class ReplyCompleted(_Event):
    """The model's reply is complete. `deltas` says which streamed pieces `text` and `reasoning` stand for."""

    type: Literal["reply.completed"] = "reply.completed"
    turn: int
    text: str = ""
    reasoning: str = ""
    stop_reason: StopReason = StopReason.END
    usage: Usage | None = None
    model: str | None = None
    deltas: tuple[FoldedRange, ...] = ()


class TextRedacted(_Event):
    """A hook changed what is stored of a reply. What was streamed of it is void; `reply.completed` has what is kept."""

    type: Literal["text.redacted"] = "text.redacted"
    turn: int


class AttemptReset(_Event):
    """The deltas from `first` to `last` belong to a reply that was given up; forget what they said.

    `kept` are numbers in between that other events have; `reasoning` the ranges that were reasoning and not text.
    """

    type: Literal["attempt.reset"] = "attempt.reset"
    first: int
    last: int
    reason: str
    kept: tuple[int, ...] = ()
    reasoning: tuple[tuple[int, int], ...] = ()

    def covers(self, number: int) -> bool:
        """Whether `number` was one of the deltas that are gone."""
        return self.first <= number <= self.last and number not in self.kept


class ModelRetried(_Event):
    """A call of the model failed and is made again after `wait_ms`, as attempt number `attempt`."""

    type: Literal["model.retried"] = "model.retried"
    model: str
    attempt: int
    wait_ms: int
    reason: str


class ModelReplaced(_Event):
    """`model` failed for good; the model `by` is asked in its place."""

    type: Literal["model.replaced"] = "model.replaced"
    model: str
    by: str
    reason: str


class ToolCalled(_Event):
    """A tool is about to run. `child_run_id` is the run that does the work, where an agent is the tool."""

    type: Literal["tool.called"] = "tool.called"
    call_id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    attempt: int = 1
    child_run_id: str | None = None


class ToolProgress(_Event):
    """A running tool tells how far it is; `fraction` is 0 to 1."""

    type: Literal["tool.progress"] = "tool.progress"
    call_id: str
    name: str
    message: str = ""
    fraction: float | None = None


class ToolFinished(_Event, Lean):
    """A tool returned: a text, files by reference, and `data` where it had some for programs beside the text."""

    type: Literal["tool.finished"] = "tool.finished"
    call_id: str
    name: str
    content: str
    files: tuple[FilePart, ...] = ()
    data: Any = None
    duration_ms: int = 0


class ToolFailed(_Event):
    """A tool raised, timed out, got wrong arguments, was cancelled, or its outcome is not known."""

    type: Literal["tool.failed"] = "tool.failed"
    call_id: str
    name: str
    content: str
    outcome: Literal["error", "unknown", "cancelled"] = "error"
    duration_ms: int = 0


class Note(_Event):
    """The loop told the model what went wrong; the run goes on after `delay_ms`."""

    type: Literal["note"] = "note"
    kind: NoteKind
    text: str
    errors: int
    max_error_retries: int
    delay_ms: int = 0


class IterationFinished(_Event):
    """An iteration was committed."""

    type: Literal["iteration.finished"] = "iteration.finished"
    iteration: int
    duration_ms: int = 0


class RunRecovered(_Event):
    """The worker that held the run stopped renewing its lease, and another took over."""

    type: Literal["run.recovered"] = "run.recovered"
    recoveries: int
    previous_owner: str = ""


class RunReleased(_Event):
    """A worker that shuts down handed the run back."""

    type: Literal["run.released"] = "run.released"
    worker: str


class RunWaiting(_Event):
    """A call waits for a person or a signal. `answer_schema` is what an answer fits; the rest is as in `Question`."""

    type: Literal["run.waiting"] = "run.waiting"
    call_id: str
    name: str
    text: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    kind: str = "outcome"
    approvers: tuple[str, ...] = ()
    destructive: bool = False
    until_ms: int = 0
    answer_schema: dict[str, Any] | None = None


class RunDelayed(_Event):
    """The run goes on after `delay_ms`: a tool may not be called so often."""

    type: Literal["run.delayed"] = "run.delayed"
    reason: str
    delay_ms: int


Word = Literal["result", "did_not_happen", "unknown", "approved", "denied", "expired", "input", "signal"]


class RunAnswered(_Event):
    """Somebody said what a call waited for. `by` is who and `source` from where, as far as they said.

    `arguments` are those that were approved, where they were changed; `reason` is why it was denied.
    """

    type: Literal["run.answered"] = "run.answered"
    call_id: str
    name: str
    answer: Word
    by: str = ""
    source: str = ""
    reason: str = ""
    arguments: dict[str, Any] | None = None


class RunRetried(_Event):
    """Somebody opened the run again after it had failed or was cancelled."""

    type: Literal["run.retried"] = "run.retried"
    retries: int
    by: str = ""


class RunPaused(_Event):
    """Somebody paused the run: it starts no iteration until it is resumed. `by` is who, as far as they said."""

    type: Literal["run.paused"] = "run.paused"
    reason: str = ""
    by: str = ""


class RunResumed(_Event):
    """Somebody let the run go on."""

    type: Literal["run.resumed"] = "run.resumed"
    by: str = ""


class RunSteered(_Event):
    """Somebody sent a message into the run: its next iteration reads it. `by` is who, as far as they said."""

    type: Literal["run.steered"] = "run.steered"
    text: str
    by: str = ""


class DataLostEvent(_Event):
    """Redis has lost what was written of this run. `unsure`: perhaps a call with an effect, so the run is stopped."""

    type: Literal["run.data_lost"] = "run.data_lost"
    unsure: bool = False


class CancelRequestedEvent(_Event):
    """Somebody asked to cancel the run."""

    type: Literal["cancel.requested"] = "cancel.requested"
    reason: str = ""
    by: str = ""


class RunCompleted(_Event):
    """The run ended with an answer."""

    type: Literal["run.completed"] = "run.completed"
    output: str
    usage: Usage = Usage()
    iterations: int = 0


class RunFailedEvent(_Event):
    """The run ended without an answer."""

    type: Literal["run.failed"] = "run.failed"
    reason: str
    usage: Usage = Usage()
    iterations: int = 0


class RunCancelledEvent(_Event):
    """The run was cancelled."""

    type: Literal["run.cancelled"] = "run.cancelled"
    reason: str = ""
    usage: Usage = Usage()
    iterations: int = 0


class Gap(_Event):
    """Events `first` to `last` are gone (trimmed by a byte limit); `messages` is the transcript in their place."""

    type: Literal["gap"] = "gap"
    first: int
    last: int
    messages: tuple[Message, ...] = ()


Delta = TextDelta | ReasoningDelta
FinalEvent = RunCompleted | RunFailedEvent | RunCancelledEvent
Event = Annotated[
    RunQueued
    | RunStarted
    | IterationStarted
    | TextDelta
    | ReasoningDelta
    | ReplyCompleted
    | TextRedacted
    | AttemptReset
    | ModelRetried
    | ModelReplaced
    | ContextRetrieved
    | ContextCompacted
    | ToolCalled
    | ToolProgress
    | ToolFinished
    | ToolFailed
    | Note
    | IterationFinished
    | RunRecovered
    | RunReleased
    | RunWaiting
    | RunDelayed
    | LimitReached
    | LimitsChanged
    | RunAnswered
    | RunRetried
    | RunPaused
    | RunResumed
    | RunSteered
    | DataLostEvent
    | CancelRequestedEvent
    | RunCompleted
    | RunFailedEvent
    | RunCancelledEvent
    | Gap,
    Field(discriminator="type"),
]
