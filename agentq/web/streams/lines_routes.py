"""A turn of a chat over HTTP: POST a message, and read lines until the turn has ended."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.routing import Route

from agentq import _json
from agentq.runs import RunState, Status
from agentq.web.access import Action
from agentq.web.chat import ChatIdentity, lines
from agentq.web.site import site_of
from agentq.web.streams import bodies
from agentq.web.streams.serving import NDJSON, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.web.chat import Line


class _Message(bodies.Given):
    session_id: str
    turn_id: str
    message: str = Field(min_length=1)


async def take_turn(request: Request) -> Response:
    """Ask, and give the lines of the turn. The same `turn_id` of a session is the same turn."""
    site = site_of(request)
    given = await bodies.read(request, _Message)
    agent = request.path_params["agent"]
    proposed = RunState("", agent, Status.QUEUED, given.message[:200], session_id=given.session_id)
    who = await site.access.allow(request, Action.START, proposed)
    identity = ChatIdentity(agent, given.session_id, given.turn_id, user_id=who or None)
    made = lines(identity, given.message, client=site.client, seen=site.redaction.event)
    return Stream(_written(made), beat_s=site.settings.heartbeat_ms / 1000, media_type=NDJSON)


async def _written(made: AsyncGenerator[Line, None]) -> AsyncGenerator[str, None]:
    async with aclosing(made):
        async for line in made:
            yield f"{_json.dumps(line).decode()}\n"


routes = [Route("/lines/{agent}", take_turn, methods=["POST"], name="lines")]
