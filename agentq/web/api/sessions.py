"""Sessions: list, read, say the next thing, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from agentq.errors import InvalidInput
from agentq.web.access import Action
from agentq.web.api.documents import Messages, Session, Sessions, Started
from agentq.web.api.endpoint import API, Endpoint, routes_of
from agentq.web.api.requests import DeleteSession, From, ListSessions, Say, files_of
from agentq.web.api.runs import idempotency_key, proposed, started, uploads

if TYPE_CHECKING:
    from agentq.runs import RunState, SessionState
    from agentq.web.api.endpoint import Asked, B, Nothing, Q

# An id may have slashes.
_SESSION = f"{API}/sessions/{{session_id:path}}"


async def list_sessions(asked: Asked[Nothing, ListSessions]) -> Sessions:
    """List sessions, the one used last first. One that is used meanwhile moves, and may be seen twice, or not."""
    await asked.allow(Action.LIST)
    query = asked.query
    found = await asked.client.sessions(user_id=query.user_id, offset=query.cursor, limit=query.limit)
    may = asked.site.access.may
    shown = [each for each in found if await may(asked.request, Action.READ, of_session(each))]
    more = str(query.cursor + len(found)) if len(found) == query.limit else None
    return Sessions(sessions=tuple(map(Session.model_validate, shown)), next_cursor=more)


async def read_session(asked: Asked[Nothing, Nothing]) -> Session:
    """Read what is known of a session."""
    session, _ = await _session(asked, Action.READ)
    return Session.model_validate(session)


async def read_session_messages(asked: Asked[Nothing, From]) -> Messages:
    """Read what the ended runs of a session said, from message `start` on."""
    session, _ = await _session(asked, Action.READ)
    messages = await asked.client.session_messages(session.session_id, start=asked.query.start)
    return Messages(messages=tuple(map(asked.site.redaction.message, messages)))


async def say(asked: Asked[Say, Nothing]) -> Response:
    """Start the next run of a session."""
    session, who = await _session(asked, Action.FOLLOW_UP)
    body = asked.body
    agent = body.agent or await _last_agent(asked, session.session_id)
    run = await asked.client.enqueue(
        agent,
        body.prompt,
        session_id=session.session_id,
        user_id=session.user_id,
        files=[*files_of(body.files), *await uploads(asked.form)],
        idempotency_key=idempotency_key(asked.request, who),
    )
    return started(asked, run.id, run.agent, is_new=run.is_new)


async def delete_session(asked: Asked[Nothing, DeleteSession]) -> Response:
    """Delete a session, what its runs said, its files and the runs themselves. One that goes on is a conflict."""
    session, _ = await _session(asked, Action.DELETE_SESSION)
    await asked.client.delete_session(session.session_id, cancel=asked.query.cancel)
    return Response(status_code=204)


def of_session(session: SessionState) -> RunState:
    """What `authorize` is asked with about a session: a run that is not there, with its session and user."""
    return proposed("", session_id=session.session_id, user_id=session.user_id)


async def _session(asked: Asked[B, Q], action: Action) -> tuple[SessionState, str]:
    session = await asked.client.session(asked.named("session_id"))
    return session, await asked.allow(action, of_session(session))


async def _last_agent(asked: Asked[B, Q], session_id: str) -> str:
    runs = await asked.client.list(session_id=session_id, limit=1)
    if not runs:
        raise InvalidInput(f"session {session_id} has no run any more that tells its agent; name one", field="agent")
    return runs[0].agent


_NEW = {201: Started, 200: Started}
endpoints = [
    Endpoint("GET", f"{API}/sessions", list_sessions, "sessions", {200: Sessions}, query=ListSessions),
    Endpoint(
        "GET", f"{_SESSION}/messages", read_session_messages, "sessions", {200: Messages}, query=From, problems=(404,)
    ),
    Endpoint(
        "POST", f"{_SESSION}/messages", say, "sessions", _NEW, body=Say, takes_form=True, headers=("Idempotency-Key",),
        problems=(404, 409),
    ),
    Endpoint("GET", _SESSION, read_session, "sessions", {200: Session}, problems=(404,)),
    Endpoint(
        "DELETE", _SESSION, delete_session, "sessions", {204: None}, query=DeleteSession, problems=(404, 409)
    ),
]  # fmt: skip
routes = routes_of(endpoints)
