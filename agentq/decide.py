"""What a run does next. PURE: no I/O, no clock, no random; the same view gives the same decision."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentq.limits import UNLIMITED, Reached, Standing, reached
from agentq.messages import (
    Message,
    NoteKind,
    Role,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    note_message,
    results_message,
)
from agentq.runs import RunState, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.steps import CallStep, Effect, Steps


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets of a run, and how long a provider that failed is left in peace."""

    max_iterations: int = 16
    max_error_retries: int = 10
    max_recoveries: int = 5
    backoff_initial_ms: int = 1_000
    backoff_max_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A model call of this iteration that gave no reply. `retry_after_ms` is what the provider asked for."""

    message: str
    retryable: bool = True
    retry_after_ms: int | None = None
    kind: NoteKind = NoteKind.PROVIDER_ERROR


@dataclass(slots=True)
class View:
    """Everything a decision depends on. Nobody changes it; to freeze one takes as long as to decide.

    `partial` is what a cancelled model call had said; `output_problem` says what is wrong with the text of an answer;
    `is_safe` says whether a call may run beside others, `is_ready` whether what a resting call waits for has come.
    `standing` is how the run stands with its limits.
    """

    run: RunState
    messages: tuple[Message, ...]
    steps: Steps
    limits: Limits
    effect_of: Callable[[ToolCallPart], Effect]
    failure: Failure | None = None
    partial: Message | None = None
    output_problem: Callable[[str], str | None] | None = None
    is_safe: Callable[[ToolCallPart], bool] = lambda call: False
    is_ready: Callable[[ToolCallPart], bool] = lambda call: False
    standing: Standing = UNLIMITED


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model for the next reply."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call to make, and which attempt it is."""

    call: ToolCallPart
    attempt: int
    effect: Effect


@dataclass(frozen=True, slots=True)
class RunCalls:
    """Make these calls, in order. `is_rest`: when they have finished, every call of the reply has a result."""

    calls: tuple[PlannedCall, ...]
    is_rest: bool = True


@dataclass(frozen=True, slots=True)
class Settle:
    """Find out what became of a call that had started, must not be repeated, and whose worker died."""

    call: ToolCallPart


@dataclass(frozen=True, slots=True)
class Ask:
    """Wait until a person has said what became of a call."""

    call: ToolCallPart


@dataclass(frozen=True, slots=True)
class Await:
    """Look whether what these calls wait for has come (the end of other runs, a word, a time), and rest if not."""

    calls: tuple[ToolCallPart, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the run may use more."""

    reached: Reached


@dataclass(frozen=True, slots=True)
class Finish:
    """Commit. `note` is what the loop tells the model; `reason` is why a run ends without an answer.

    `reached` is the limit that ends it.
    """

    status: Status
    messages: tuple[Message, ...]
    iteration: int
    errors: int
    note: NoteKind | None = None
    reason: str | None = None
    delay_ms: int = 0
    reached: Reached | None = None


Decision = CallModel | RunCalls | Settle | Ask | Await | Hold | Finish


def decide(view: View) -> Decision:
    """Say what comes next, from the run, its transcript, the journal and what has just happened."""
    decision = _unlimited(view)
    # What is done is kept, whatever it took.
    if isinstance(decision, Finish):
        return decision
    limit = reached(view.standing, asks_model=isinstance(decision, CallModel))
    if limit is None:
        return decision
    if limit.on_reached == "wait":
        return Hold(limit)
    # The journal stays: a retry goes on from it.
    return replace(_failed(view, (), limit.text), reached=limit)


def _unlimited(view: View) -> Decision:
    run = view.run
    if run.is_cancel_requested:
        return _cancelled(view)
    if run.unsure:
        return _failed(
            view,
            (),
            "Redis has lost a part of what was stored of this run, perhaps a call that had an effect; it is not done "
            "again by itself. Find out, then `agentq retry` takes it up from what is stored",
        )
    if run.recoveries > view.limits.max_recoveries:
        return _failed(
            view,
            (),
            f"its worker died {run.recoveries} times without a commit in between (max_recoveries="
            f"{view.limits.max_recoveries}); the run is set aside so that it takes no more workers with it",
        )
    if view.steps.reply is not None:
        return _after_reply(view, view.steps.reply)
    if view.failure is not None:
        return _after_failure(view, view.failure)
    if view.messages and _is_answer(view.messages[-1]):
        return Finish(Status.COMPLETED, (), run.iteration, 0)
    if run.iteration - max(run.retried_at, run.heard_at) >= view.limits.max_iterations:
        return _failed(
            view,
            (),
            f"it used all its iterations (max_iterations={view.limits.max_iterations}) without coming to an answer",
        )
    return CallModel()


def _is_answer(message: Message) -> bool:
    return message.role is Role.ASSISTANT and not message.tool_calls


def _after_reply(view: View, reply: Message) -> Decision:
    if reply.stop_reason in (StopReason.REFUSAL, StopReason.CONTENT_FILTER):
        return _failed_turn(view, (), NoteKind.REFUSED, _refusal(reply))
    if not reply.tool_calls:
        if reply.stop_reason is StopReason.MAX_TOKENS and not reply.text.strip():
            # Another try would cost as much and come as far.
            return _failed(view, (), "the model used up its token limit before it said anything; raise max_tokens")
        if view.output_problem is not None and (problem := view.output_problem(reply.text)) is not None:
            return _failed_turn(view, (reply,), NoteKind.OUTPUT_INVALID, problem)
        return Finish(Status.COMPLETED, (reply,), view.run.iteration + 1, 0)
    return _calls_to_make(view, reply) or _after_calls(view, reply)


def _calls_to_make(view: View, reply: Message) -> Decision | None:
    """What is to be done for calls without a result; None when all of them have one."""
    planned: list[PlannedCall] = []
    resting: list[ToolCallPart] = []
    is_rest = True
    for call in reply.tool_calls:
        step = view.steps.calls.get(call.call_id)
        if step is not None and step.result is not None:
            continue
        if step is not None and _rests(view, call, step):
            resting.append(call)
            continue
        if resting and not view.is_safe(call):
            # It may depend on what those that rest come to.
            is_rest = False
            break
        if step is not None and step.waits is not None:
            planned.append(PlannedCall(call, step.attempt, view.effect_of(call)))
        elif step is None or step.withdrawn:
            planned.append(PlannedCall(call, step.attempt if step else 1, view.effect_of(call)))
        elif step.effect != "once" or step.verdict == "did_not_happen":
            planned.append(PlannedCall(call, step.attempt + 1, step.effect))
        elif not planned:
            return Ask(call) if step.verdict == "ask" else Settle(call)
        else:
            # Later calls may depend on what becomes of this one, and the earlier ones come first.
            is_rest = False
            break
    if planned:
        return RunCalls(tuple(planned), is_rest and not resting)
    return Await(tuple(resting)) if resting else None


def _rests(view: View, call: ToolCallPart, step: CallStep) -> bool:
    """Whether the call waits for something that has not come."""
    if step.withdrawn:
        return False
    return step.child is not None or (step.waits is not None and not view.is_ready(call))


def _after_calls(view: View, reply: Message) -> Decision:
    steps = [view.steps.calls[call.call_id] for call in reply.tool_calls]
    results = [step.result for step in steps if step.result is not None]
    done = (reply, results_message(results))
    raised = [f"{step.result.name}: {step.result.content}" for step in steps if step.raised and step.result]
    if not raised:
        return Finish(Status.QUEUED, done, view.run.iteration + 1, 0)
    return _failed_turn(view, done, NoteKind.TOOL_ERROR, "; ".join(raised))


def _after_failure(view: View, failure: Failure) -> Decision:
    if not failure.retryable:
        return _failed(view, (), failure.message)
    delay_ms = min(view.limits.backoff_initial_ms * 2**view.run.errors, view.limits.backoff_max_ms)
    if failure.retry_after_ms is not None:
        # Never sooner than the back-off: servers in trouble say 0.
        delay_ms = max(delay_ms, failure.retry_after_ms)
    return _failed_turn(view, (), failure.kind, failure.message, _spread(delay_ms, view.run))


def _spread(delay_ms: int, run: RunState) -> int:
    """Up to a tenth longer, by the run's own id: runs that failed in one moment must not all come back in another."""
    share = zlib.crc32(f"{run.run_id} {run.errors}".encode()) / 2**32
    return delay_ms + int(delay_ms * share / 10)


def _failed_turn(view: View, done: tuple[Message, ...], kind: NoteKind, error: str, delay_ms: int = 0) -> Finish:
    """A turn that does not use an iteration: told to the model, counted, and past the cap the end of the run."""
    errors = view.run.errors + 1
    note = note_message(_NOTES[kind].format(error=error), kind)
    if errors > view.limits.max_error_retries:
        return Finish(
            Status.FAILED, (*done, note), view.run.iteration, errors, kind,
            f"{errors} turns in a row failed (max_error_retries={view.limits.max_error_retries}); the last: {error}",
        )  # fmt: skip
    return Finish(Status.QUEUED, (*done, note), view.run.iteration, errors, kind, error, delay_ms)


def _failed(view: View, messages: tuple[Message, ...], reason: str) -> Finish:
    return Finish(Status.FAILED, messages, view.run.iteration, view.run.errors, reason=reason)


def _cancelled(view: View) -> Finish:
    """Keep what there is: the reply or the part of it that had come, every finished result, and a word for the rest."""
    reply = view.steps.reply or view.partial
    messages: tuple[Message, ...] = ()
    if reply is not None:
        messages = (reply,)
        if reply.tool_calls:
            results = [_result_when_cancelled(call, view.steps.calls.get(call.call_id)) for call in reply.tool_calls]
            messages = (reply, results_message(results))
    return Finish(Status.CANCELLED, messages, view.run.iteration, view.run.errors, reason=view.run.cancel_reason or "")


def _result_when_cancelled(call: ToolCallPart, step: CallStep | None) -> ToolResultPart:
    if step is not None and step.result is not None:
        return step.result
    if step is not None and step.child is None and step.may_have_happened:
        return unknown_result(call)
    return ToolResultPart(
        call_id=call.call_id,
        name=call.name,
        content="The run was cancelled before this call finished.",
        outcome="cancelled",
        provider_call_id=call.provider_call_id,
    )


def unknown_result(call: ToolCallPart) -> ToolResultPart:
    """What a call gets that had started, must not be repeated, and whose result was lost with its worker."""
    return ToolResultPart(
        call_id=call.call_id,
        name=call.name,
        content="Outcome unknown: the call had started when its worker stopped. It may or may not have had its "
        "effect, and was not repeated. Find out before you try again.",
        outcome="unknown",
        provider_call_id=call.provider_call_id,
    )


def _refusal(reply: Message) -> str:
    said = "".join(part.text for part in reply.parts if isinstance(part, TextPart)).strip()
    why = "a content filter stopped the reply" if reply.stop_reason is StopReason.CONTENT_FILTER else "it was refused"
    return f"{why}: {said}" if said else why


_NOTES = {
    NoteKind.PROVIDER_ERROR: "The last model call failed ({error}). Go on from where you were.",
    NoteKind.CONTEXT_ERROR: "The model could not be asked ({error}). Go on from where you were.",
    NoteKind.HOOK_ERROR: "The last turn was stopped ({error}). Go on from where you were.",
    NoteKind.REFUSED: "Your last reply was not accepted ({error}). Answer the request in another way.",
    NoteKind.OUTPUT_INVALID: "Your answer does not have the form that was asked for ({error}). Give it again, whole.",
    NoteKind.TOOL_ERROR: "A tool failed ({error}). Correct the call, use another tool, or go on without it.",
}
