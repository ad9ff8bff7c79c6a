"""Sessions as conversations: what their runs said, and a box to say the next thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import InvalidInput
from agentq.intake import checked_offset
from agentq.runs import RunState, SessionState, Status
from agentq.web.access import Action
from agentq.web.page.listing import PAGE, agents
from agentq.web.page.rendering import allowed, form_key, page, see
from agentq.web.page.run import ANSWERS, asks_of, timeline_of
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

# So many messages at once; those before are a link away.
_MESSAGES = 200
_RUNS = 20


async def index(request: Request) -> Response:
    """The sessions, the one used last first."""
    site = site_of(request)
    await site.access.allow(request, Action.LIST)
    user_id = request.query_params.get("user_id") or None
    given = request.query_params.get("offset", "0")
    offset = checked_offset(int(given) if given.isascii() and given.isdigit() else 0, field="offset")
    found = await site.client.sessions(user_id=user_id, offset=offset, limit=PAGE)
    shown = [each for each in found if await site.access.may(request, Action.READ, _as_run(each))]
    older = offset + PAGE if len(found) == PAGE else None
    return page(
        request, "sessions.html", sessions=shown, user_id=user_id, offset=offset, older=older, names=await agents(site)
    )


async def show(request: Request) -> Response:
    """One session."""
    site = site_of(request)
    session = await site.client.session(request.path_params["session_id"])
    await site.access.allow(request, Action.READ, _as_run(session))
    given = request.query_params.get("before", "")
    end = int(given) if given.isascii() and given.isdigit() else session.message_count
    start = max(end - _MESSAGES, 0)
    messages = await site.client.session_messages(session.session_id, start=start)
    found = await site.client.list(session_id=session.session_id, limit=_RUNS)
    runs = [run for run in found if await site.access.may(request, Action.READ, run)]
    open_runs = [run for run in reversed(runs) if not run.status.is_final]
    live = next((run for run in open_runs if run.run_id == session.live_run_id), None)
    timeline = None if live is None else await timeline_of(site, live.run_id)
    can = await allowed(request, _as_run(session), Action.FOLLOW_UP)
    if live is not None:
        can |= await allowed(request, live, *ANSWERS)
    return page(
        request,
        "session.html",
        session=session,
        messages=[site.redaction.message(message) for message in messages[: end - start]],
        earlier=start or None,
        live=None if live is None else site.redaction.run(live),
        entries=[] if timeline is None else timeline.entries.values(),
        cursor=0 if timeline is None else timeline.cursor,
        asks=[] if live is None else asks_of(site, live),
        queued=[site.redaction.run(run) for run in open_runs if run is not live],
        runs=[site.redaction.run(run) for run in runs],
        agent=runs[0].agent if runs else None,
        names=await agents(site),
        can=can,
    )


async def say(request: Request) -> Response:
    """Start the next run of a session."""
    site = site_of(request)
    form = await site.access.form(request)
    session = await site.client.session(request.path_params["session_id"])
    who = await site.access.allow(request, Action.FOLLOW_UP, _as_run(session))
    agent, text = form.get("agent"), form.get("text")
    if not isinstance(agent, str) or not agent or not isinstance(text, str):
        raise InvalidInput("say something, and to which agent", field="text")
    await site.client.enqueue(
        agent,
        text.strip(),
        session_id=session.session_id,
        user_id=session.user_id,
        idempotency_key=form_key(form.get("key"), who),
    )
    return see(request, "page_session", session_id=session.session_id)


def _as_run(session: SessionState) -> RunState:
    """What `authorize` is asked with about a session: a run that is not there, with its session and user."""
    return RunState("", "", Status.QUEUED, session_id=session.session_id, user_id=session.user_id)
