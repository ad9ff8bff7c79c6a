"""Questions that a run asks people, and their answers as the journal holds them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json
from agentq.decide import unknown_result
from agentq.events.model import RunAnswered, ToolFailed, ToolFinished
from agentq.messages import ToolCallPart, ToolResultPart
from agentq.runs import Question, RunState
from agentq.steps import CallStep, encode_call_step
from agentq.stores.base import Answer, StepRecord
from agentq.tools.behaviour import Reconciled
from agentq.tools.results import returned_text

if TYPE_CHECKING:
    from typing import Literal

    from agentq.events.model import Event


def question_about(call: ToolCallPart, step: CallStep) -> Question:
    """What a person is asked about a call whose worker died."""
    return Question(
        call_id=call.call_id,
        tool=call.name,
        text=f"{call.name} had started when its worker stopped. Did it happen, and what was its result?",
        arguments=call.arguments,
        attempt=step.attempt,
        arguments_hash=step.arguments_hash,
        provider_call_id=call.provider_call_id,
    )


def answer_to(run: RunState, question: Question, given: Any, *, by: str = "") -> Answer:
    """The answer as a store takes it. `given` is what the tool would have returned, or a `Reconciled`.

    Raises `ToolError` for a result that has no JSON form or has files.
    """
    step = CallStep(attempt=question.attempt, effect="once", arguments_hash=question.arguments_hash)
    word: Literal["result", "did_not_happen", "unknown"] = given.value if isinstance(given, Reconciled) else "result"
    told: list[Event] = [RunAnswered(call_id=question.call_id, name=question.tool, answer=word, by=by)]
    if given is Reconciled.DID_NOT_HAPPEN:
        step = step.model_copy(update={"verdict": "did_not_happen"})
    elif given is Reconciled.UNKNOWN:
        result = unknown_result(_call(question))
        step = step.model_copy(update={"result": result})
        told.append(ToolFailed(call_id=result.call_id, name=result.name, content=result.content, outcome="unknown"))
    else:
        came = returned_text(given)
        content = _json.storable(came.content)
        result = ToolResultPart(
            call_id=question.call_id,
            name=question.tool,
            content=content,
            data=came.data,
            provider_call_id=question.provider_call_id,
        )
        step = step.model_copy(update={"result": result})
        told.append(ToolFinished(call_id=result.call_id, name=result.name, content=content, data=came.data))
    return Answer(run.fence, StepRecord(question.call_id, encode_call_step(step)), tuple(told))


def _call(question: Question) -> ToolCallPart:
    return ToolCallPart(
        call_id=question.call_id,
        name=question.tool,
        arguments=dict(question.arguments),
        provider_call_id=question.provider_call_id,
    )
