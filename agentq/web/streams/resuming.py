"""What people answered in a front end: checked, handed to the run, and harmless when it comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentq.errors import AlreadyDecided, InvalidInput, NotWaiting, RunAlreadyFinished
from agentq.events.model import RunAnswered, RunWaiting
from agentq.runs import APPROVAL, CALL_OUTCOME
from agentq.web.access import Action
from agentq.web.streams.frames import Asked, asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from agentq.runs import RunState
    from agentq.web.site import Site
    from agentq.web.streams.frames import Turn

# A call asks a moment before its run rests, and only then takes some answers.
_TRIES = 40
_TRY_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to the question `interrupt_id`; `cancelled` is to say that there will be none."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


async def resume(site: Site, request: Request, answers: Sequence[Answer]) -> tuple[RunState, Turn]:
    """Give the answers, and return the turn that goes on after the last question.

    A question that was answered before is passed over: the request may have been sent twice. Raises `InvalidInput`.
    """
    questions = [(_question(answer), answer) for answer in answers]
    turns = {question.turn.run_id for question, _ in questions}
    if len(turns) != 1:
        raise InvalidInput("answers of one request are for one run", field="resume")
    run = await site.client.read(turns.pop())
    for question, answer in questions:
        waiting, is_answered = await _look(site, question)
        if not is_answered:
            await _give(site, request, run, waiting, answer)
    last = max((question for question, _ in questions), key=lambda question: question.seq)
    return run, last.turn


def _question(answer: Answer) -> Asked:
    question = asked(answer.interrupt_id)
    if question is None:
        raise InvalidInput(f"resume: there is no interrupt {answer.interrupt_id!r:.80}", field="resume")
    return question


async def _look(site: Site, question: Asked) -> tuple[RunWaiting, bool]:
    """What was asked, and whether it was answered since."""
    run_id = question.turn.run_id
    waiting = None
    kinds = ["run.waiting", "run.answered"]
    async with aclosing(site.client.events(run_id, after=max(question.seq - 1, 0), live=False, kinds=kinds)) as events:
        async for event in events:
            if event.seq == question.seq and isinstance(event, RunWaiting) and event.call_id == question.call_id:
                waiting = event
            elif waiting is not None and isinstance(event, RunAnswered) and event.call_id == question.call_id:
                return waiting, True
    if waiting is None:
        raise InvalidInput(f"resume: run {run_id} has not asked {question}", field="resume")
    return waiting, False


async def _give(site: Site, request: Request, run: RunState, waiting: RunWaiting, answer: Answer) -> None:
    for left in range(_TRIES, 0, -1):
        try:
            await _say(site, request, run, waiting, answer)
        except (AlreadyDecided, NotWaiting):
            _, is_answered = await _look(site, Asked(waiting.call_id, waiting.seq))
            if is_answered or (await site.client.read(run.run_id)).status.is_final:
                return
            if left == 1:
                raise
            await asyncio.sleep(_TRY_AGAIN_S)
        else:
            return


async def _say(site: Site, request: Request, run: RunState, waiting: RunWaiting, answer: Answer) -> None:
    client, call_id, run_id = site.client, waiting.call_id, run.run_id
    if waiting.kind == APPROVAL:
        is_approved, reason, arguments = _decision(answer)
        by = await site.access.allow(request, Action.APPROVE if is_approved else Action.DENY, run)
        if is_approved:
            await client.approve(run_id, call_id, arguments=arguments, by=by)
        else:
            await client.deny(run_id, call_id, reason=reason, by=by)
    elif answer.status == "cancelled":
        # There is no answer that would fit, and the run would wait for ever.
        await site.access.allow(request, Action.CANCEL, run)
        try:
            await client.cancel(run_id, reason=f"nobody answers: {waiting.text}")
        except RunAlreadyFinished:
            return
    else:
        by = await site.access.allow(request, Action.ANSWER, run)
        number = await _number(site, waiting)
        payload = _outcome(answer.payload) if waiting.kind == CALL_OUTCOME else answer.payload
        await client.answer(run_id, payload, call_id=call_id, number=number, by=by)


async def _number(site: Site, waiting: RunWaiting) -> int:
    """Which of the questions of its call this is. Raises `NotWaiting` where it is not open, or not open yet."""
    run = await site.client.read(waiting.run_id)
    number = next((each.number for each in run.questions if each.call_id == waiting.call_id), None)
    # Looked at afterwards: as long as it is not answered, no other one can have been asked.
    _, is_answered = await _look(site, Asked(waiting.call_id, waiting.seq))
    if number is None or is_answered:
        raise NotWaiting
    return number


def _decision(answer: Answer) -> tuple[bool, str, Mapping[str, Any] | None]:
    """Whether the call is allowed, why not, and with which other arguments."""
    if answer.status == "cancelled":
        return False, "", None
    payload = {"approved": answer.payload} if isinstance(answer.payload, bool) else answer.payload
    if not isinstance(payload, Mapping) or not isinstance(payload.get("approved"), bool):
        raise InvalidInput("resume: the payload of an approval has approved: true or false", field="resume")
    reason, arguments = payload.get("reason") or "", payload.get("arguments")
    if not isinstance(reason, str) or not (arguments is None or isinstance(arguments, dict)):
        raise InvalidInput("resume: reason is text, and arguments an object", field="resume")
    return payload["approved"], reason, arguments


def _outcome(payload: Any) -> Any:
    # Here, because it brings the tools along, which only this needs.
    from agentq.tools.behaviour import Reconciled

    if isinstance(payload, Mapping) and payload.get("outcome") in {each.value for each in Reconciled}:
        return Reconciled(payload["outcome"])
    return payload
