"""What people say to runs that wait: allow a call, deny it, answer, signal; and the inbox of what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq.errors import InvalidInput
from agentq.tools.behaviour import Reconciled
from agentq.web.access import Action
from agentq.web.api.documents import Inbox, Question, RunStatus, Waiting
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.requests import Answer, Approve, Deny, Newest, Signal

if TYPE_CHECKING:
    from agentq.web.api.endpoint import Asked, Nothing

_RUN = f"{API}/runs/{{run_id}}"
# From where a decision came, in the events of the run.
SOURCE = "api"


async def read_inbox(asked: Asked[Nothing, Newest]) -> Inbox:
    """List what the newest runs that wait want people to say."""
    await asked.allow(Action.LIST)
    waiting = await asked.client.inbox(limit=asked.query.limit)
    readable = {run.run_id for run in await asked.shown({each.run.run_id: each.run for each in waiting}.values())}
    redaction = asked.site.redaction
    return Inbox(
        waiting=tuple(
            Waiting(run=asked.document(each.run), question=Question.model_validate(redaction.question(each.question)))
            for each in waiting
            if each.run.run_id in readable
        )
    )


async def approve_call(asked: Asked[Approve, Nothing]) -> RunStatus:
    """Allow a call that waits for it, as it is or with other arguments. Again with the same words: no effect."""
    run, who = await asked.run(Action.APPROVE)
    body = asked.body
    status = await asked.client.approve(
        run.run_id, body.call_id, arguments=body.arguments, by=who or body.by, source=SOURCE
    )
    return RunStatus(run_id=run.run_id, status=status)


async def deny_call(asked: Asked[Deny, Nothing]) -> RunStatus:
    """Deny a call that waits to be allowed; the model is told the reason."""
    run, who = await asked.run(Action.DENY)
    body = asked.body
    status = await asked.client.deny(run.run_id, body.call_id, reason=body.reason, by=who or body.by, source=SOURCE)
    return RunStatus(run_id=run.run_id, status=status)


async def answer_run(asked: Asked[Answer, Nothing]) -> RunStatus:
    """Answer what a run asks, or say what became of a call whose outcome is not known."""
    run, who = await asked.run(Action.ANSWER)
    body = asked.body
    given: Any = body.answer
    if body.outcome is not None:
        if "answer" in body.model_fields_set:
            raise InvalidInput("give an answer or an outcome, not both", field="outcome")
        given = Reconciled.DID_NOT_HAPPEN if body.outcome == "did_not_happen" else Reconciled.UNKNOWN
    elif "answer" not in body.model_fields_set:
        raise InvalidInput("give an answer, or an outcome", field="answer")
    status = await asked.client.answer(run.run_id, given, call_id=body.call_id, number=body.number, by=who or body.by)
    return RunStatus(run_id=run.run_id, status=status)


async def signal_run(asked: Asked[Signal, Nothing]) -> RunStatus:
    """Tell a run that something has happened, for a tool that waits for it now or later."""
    run, who = await asked.run(Action.SIGNAL)
    body = asked.body
    status = await asked.client.signal(run.run_id, body.name, body.data, signal_id=body.signal_id, by=who or body.by)
    return RunStatus(run_id=run.run_id, status=status)


_ONE = {200: RunStatus}
endpoints = [
    Endpoint("GET", f"{API}/inbox", read_inbox, "people", {200: Inbox}, query=Newest),
    Endpoint("POST", f"{_RUN}/approve", approve_call, "people", _ONE, body=Approve, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/deny", deny_call, "people", _ONE, body=Deny, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/answer", answer_run, "people", _ONE, body=Answer, problems=(404, 409)),
    Endpoint("POST", f"{_RUN}/signals", signal_run, "people", _ONE, body=Signal, problems=(404, 409)),
]
routes = routes_of(endpoints)
