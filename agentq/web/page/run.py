"""One run: its timeline, what it waits for, and its long results whole."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from agentq.events.model import ToolCalled, ToolFailed, ToolFinished
from agentq.runs import FOR_PEOPLE, RunState, Status
from agentq.web.access import Action
from agentq.web.page.asking import Ask
from agentq.web.page.rendering import allowed, page
from agentq.web.page.timeline import Timeline
from agentq.web.page.words import pretty
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.web.site import Site

# What can be done with a run, beside answering it.
_STEERS = (Action.CANCEL, Action.PAUSE, Action.RESUME, Action.RETRY, Action.STEER, Action.FOLLOW_UP)
# Of a run that did so much, the first entries are a link away.
_MOST_ENTRIES = 500
ANSWERS = (Action.APPROVE, Action.DENY, Action.ANSWER)


async def show(request: Request) -> Response:
    """The page of a run."""
    site = site_of(request)
    run = await readable(request)
    timeline = await timeline_of(site, run.run_id)
    # Read again: the events may be newer than the state that was read before them.
    run = await site.client.read(run.run_id)
    state = await state_of(request, run)
    entries, is_all = list(timeline.entries.values()), "all" in request.query_params
    hidden = 0 if is_all else max(len(entries) - _MOST_ENTRIES, 0)
    return page(request, "run.html", entries=entries[hidden:], hidden=hidden, cursor=timeline.cursor, **state)


async def readable(request: Request) -> RunState:
    """The run that the path names. Raises `RunNotFound`, and `Problem` where one may not read it."""
    site = site_of(request)
    run = await site.client.read(request.path_params["run_id"])
    await site.access.allow(request, Action.READ, run)
    return run


async def timeline_of(site: Site, run_id: str) -> Timeline:
    """What has happened so far."""
    timeline = Timeline()
    async with aclosing(site.client.events(run_id, live=False, voided=True)) as events:
        async for event in events:
            timeline.take(site.redaction.event(event))
    return timeline


async def state_of(request: Request, run: RunState) -> dict[str, Any]:
    """What the templates of a run's state, and of what it asks, are made with."""
    site = site_of(request)
    can = await allowed(request, run, *_STEERS, *ANSWERS)
    return {
        "run": site.redaction.run(run),
        "why": await site.client.why(run.run_id),
        "can": can if run.run_id else frozenset(),
        "asks": asks_of(site, run),
        "max_iterations": None if run.limits is None else run.limits.iterations,
    }


def asks_of(site: Site, run: RunState) -> list[Ask]:
    """What it waits for people to say."""
    if run.status is not Status.WAITING:
        return []
    shown = [(question, site.redaction.question(question)) for question in run.questions if question.kind in FOR_PEOPLE]
    return [Ask(run, redacted, is_whole=redacted.arguments == question.arguments) for question, redacted in shown]


async def result(request: Request) -> Response:
    """The whole result of a call, as plain text."""
    return await _whole(request, "result")


async def arguments(request: Request) -> Response:
    """The whole arguments of a call, as JSON."""
    return await _whole(request, "arguments")


async def _whole(request: Request, what: str) -> Response:
    site, run = site_of(request), await readable(request)
    call_id = request.path_params["call_id"]
    kinds = ["tool.called"] if what == "arguments" else ["tool.finished", "tool.failed"]
    found = None
    async with aclosing(site.client.events(run.run_id, live=False, kinds=kinds)) as events:
        async for event in events:
            match event:
                case ToolCalled(call_id=this) if this == call_id:
                    found = pretty(site.redaction.arguments(event.name, event.arguments))
                case ToolFinished(call_id=this) | ToolFailed(call_id=this) if this == call_id:
                    found = event.content
                case _:
                    pass
    if found is None:
        raise HTTPException(404)
    return PlainTextResponse(found)
