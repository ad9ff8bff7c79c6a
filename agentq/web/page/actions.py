"""What the forms of the page do: to one run, and what people say to those that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import InvalidInput, NotWaiting
from agentq.web.access import Action
from agentq.web.page.asking import answer_of, changed_arguments
from agentq.web.page.rendering import form_key, see
from agentq.web.site import site_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.client_async import AsyncClient
    from agentq.runs import Question, RunState

    Act = Callable[[AsyncClient, RunState, FormData, str], Awaitable[str | None]]

# From where a decision came, in the events of the run.
SOURCE = "page"


def _handler(action: Action, act: Act) -> Callable[[Request], Awaitable[Response]]:
    """A handler that does this to the run of the path, and shows what `act` returns the id of, else the run."""

    async def handle(request: Request) -> Response:
        site = site_of(request)
        form = await site.access.form(request)
        run = await site.client.read(request.path_params["run_id"])
        who = await site.access.allow(request, action, run)
        shown = await act(site.client, run, form, who)
        if form.get("back") == "inbox":
            return see(request, "page_inbox")
        return see(request, "page_run", run_id=shown or run.run_id)

    return handle


def _text(form: FormData, name: str) -> str:
    given = form.get(name)
    return given.strip() if isinstance(given, str) else ""


async def _cancel(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    await client.cancel(run.run_id, reason=_text(form, "reason"), wait=1.0)


async def _pause(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    await client.pause(run.run_id, reason=_text(form, "reason"), by=who)


async def _resume(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    await client.resume(run.run_id, by=who)


async def _retry(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    await client.retry(run.run_id)


async def _steer(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    await client.steer(run.run_id, _text(form, "text"), by=who)


async def _follow_up(client: AsyncClient, run: RunState, form: FormData, who: str) -> str:
    key = form_key(form.get("key"), who)
    return (await client.follow_up(run.run_id, _text(form, "text"), idempotency_key=key)).id


async def _approve(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    question = _question(run, form)
    arguments = changed_arguments(form.get("arguments"), question)
    await client.approve(run.run_id, question.call_id, arguments=arguments, by=who, source=SOURCE)


async def _deny(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    call_id = _question(run, form).call_id
    await client.deny(run.run_id, call_id, reason=_text(form, "reason"), by=who, source=SOURCE)


async def _answer(client: AsyncClient, run: RunState, form: FormData, who: str) -> None:
    question = _question(run, form)
    await client.answer(run.run_id, answer_of(question, form), call_id=question.call_id, by=who)


def _question(run: RunState, form: FormData) -> Question:
    """What the form is about: it must still be asked, in just this form."""
    call_id = _text(form, "call_id")
    number = _text(form, "number") or "0"
    if not call_id:
        raise InvalidInput("the form names no call", field="call_id")
    for question in run.questions:
        if question.call_id == call_id and str(question.number) == number:
            return question
    raise NotWaiting(f"call {call_id} does not wait any more: somebody was faster, or the run has moved on")


cancel = _handler(Action.CANCEL, _cancel)
pause = _handler(Action.PAUSE, _pause)
resume = _handler(Action.RESUME, _resume)
retry = _handler(Action.RETRY, _retry)
steer = _handler(Action.STEER, _steer)
follow_up = _handler(Action.FOLLOW_UP, _follow_up)
approve = _handler(Action.APPROVE, _approve)
deny = _handler(Action.DENY, _deny)
answer = _handler(Action.ANSWER, _answer)
