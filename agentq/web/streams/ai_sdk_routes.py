"""What `useChat` asks for: POST a message, GET the stream of a chat again, GET it from a chunk on."""

from __future__ import annotations

import hashlib
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from agentq import _json
from agentq._ids import new_token
from agentq.errors import InvalidInput, RunNotFound, SessionNotFound
from agentq.web.access import Action
from agentq.web.site import site_of
from agentq.web.streams import bodies, projecting
from agentq.web.streams.ai_sdk import AISDKFold
from agentq.web.streams.frames import Turn, position, turn
from agentq.web.streams.resuming import Answer, resume
from agentq.web.streams.serving import Stream
from agentq.web.streams.starting import Prompt, file_of, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from agentq.runs import RunState
    from agentq.web.site import Site
    from agentq.web.streams.frames import Frame

_MARK = {"x-vercel-ai-ui-message-stream": "v1"}
_DONE = "data: [DONE]\n\n"
_MAX_INDEX = 10_000_000


class _Approval(bodies.Given):
    approval_id: str = Field(alias="id")
    approved: bool | None = None
    reason: str | None = None


class _Part(bodies.Given):
    type: str
    text: str = ""
    url: str | None = None
    media_type: str | None = Field(None, alias="mediaType")
    filename: str | None = None
    state: str | None = None
    approval: _Approval | None = None


class _Message(bodies.Given):
    message_id: str = Field("", alias="id")
    role: str
    parts: tuple[_Part, ...] = ()


class _Resume(bodies.Given):
    interrupt_id: str = Field(alias="interruptId")
    status: Literal["resolved", "cancelled"] = "resolved"
    payload: Any = None


class _Chat(bodies.Given):
    chat_id: str | None = Field(None, alias="id")
    messages: tuple[_Message, ...] = ()
    message: _Message | None = None
    trigger: str = "submit-message"
    message_id: str | None = Field(None, alias="messageId")
    resume: tuple[_Resume, ...] = ()

    @property
    def all(self) -> tuple[_Message, ...]:
        """The messages; `message` is the last one, where not all are sent."""
        return self.messages if self.message is None else (*self.messages, self.message)


async def chat(request: Request) -> Response:
    """Start the run of the last message, or hand on what people answered, and stream what comes of it."""
    site = site_of(request)
    given = await bodies.read(request, _Chat)
    answers = [Answer(each.interrupt_id, each.status, each.payload) for each in given.resume] or _approvals(given)
    if answers:
        run, on = await resume(site, request, answers)
    else:
        run = await _start(site, request, given)
        on = Turn(run.run_id)
    return _stream(request, site, on, projecting.past())


async def again(request: Request) -> Response:
    """The stream of a chat's run from its start, or of a turn from the chunk `startIndex` on; 204 for none.

    With `ended=true`, the last run of the chat has one even when it has ended: a client that was cut off just before
    would else never see the end. With `startIndex` too, for the client that sends it takes no 204.
    """
    site = site_of(request)
    name, start_index = request.path_params["chat_id"], _start_index(request)
    on = turn(name)
    run = None
    if on is not None:
        # Chats may have names of any kind.
        with suppress(RunNotFound):
            run = await site.client.read(on.run_id)
    if on is not None and run is not None:
        await site.access.allow(request, Action.READ, run)
        return await _from(request, site, on, start_index, is_whole=False)
    ended = start_index is not None or request.query_params.get("ended") == "true"
    live = await _live(site, name, ended=ended)
    if live is None:
        return Response(status_code=204)
    await site.access.allow(request, Action.READ, live)
    return await _from(request, site, Turn(live.run_id), start_index, is_whole=True)


async def _live(site: Site, chat_id: str, *, ended: bool) -> RunState | None:
    """The run of the chat that goes on, or waits for somebody; with `ended`, else the last one."""
    try:
        session = await site.client.session(chat_id)
        if session.live_run_id is not None:
            return await site.client.read(session.live_run_id)
    except (SessionNotFound, RunNotFound):
        return None
    return next(iter(await site.client.list(session_id=chat_id, limit=1)), None) if ended else None


async def _from(request: Request, site: Site, on: Turn, start_index: int | None, *, is_whole: bool) -> Response:
    cursor = request.headers.get("last-event-id")
    if start_index is None:
        seen = projecting.past(position(cursor)) if cursor else projecting.past()
        return _stream(request, site, on, seen, is_whole=is_whole)
    headers = {}
    if start_index < 0:
        count = await _count(request, site, on, is_whole=is_whole)
        start_index = max(count + start_index, 0)
        headers["x-workflow-stream-tail-index"] = str(count - 1)
    return _stream(request, site, on, projecting.past(skip=start_index), is_whole=is_whole, headers=headers)


async def _count(request: Request, site: Site, on: Turn, *, is_whole: bool) -> int:
    """How many chunks there are by now."""
    count = 0
    fold = AISDKFold(on.run_id)
    made = projecting.frames(site, on.run_id, fold, begins_after=on.after, is_whole=is_whole, live=False)
    async with aclosing(made):
        async for frames in made:
            count += len(frames)
    return count


def _stream(
    request: Request,
    site: Site,
    on: Turn,
    seen: Callable[[Sequence[Frame]], list[Frame]],
    *,
    is_whole: bool = False,
    headers: dict[str, str] | None = None,
) -> Stream:
    fold = AISDKFold(on.run_id, file_url=projecting.file_urls(request, on.run_id))
    made = projecting.frames(site, on.run_id, fold, begins_after=on.after, is_whole=is_whole)
    return Stream(
        projecting.chunks(made, seen, end=_DONE),
        beat_s=site.settings.heartbeat_ms / 1000,
        headers={**_MARK, "x-workflow-run-id": str(on), **(headers or {})},
    )


async def _start(site: Site, request: Request, given: _Chat) -> RunState:
    asking = [message for message in given.all if message.role == "user"]
    if not asking:
        raise InvalidInput("messages: there is no message of a user", field="messages")
    message = asking[-1]
    text = "".join(part.text for part in message.parts if part.type == "text")
    files = [
        file_of(part.url, part.media_type, part.filename)
        for part in message.parts
        if part.type == "file" and part.url is not None
    ]
    # A message that was edited keeps its id, and is another one.
    content = hashlib.sha256(_json.dumps([part.model_dump(mode="json") for part in message.parts])).hexdigest()
    # To answer again is another run each time; where the answer to be replaced is named, once for each.
    again = (given.message_id or new_token()) if given.trigger == "regenerate-message" else None
    # WorkflowChatTransport sends no id of the chat; its first message always has the same one.
    session_id = given.chat_id or (given.all[0].message_id or None)
    return await start(
        site,
        request,
        request.path_params["agent"],
        Prompt(text, files),
        session_id=session_id,
        key=("ai-sdk", message.message_id, content, again),
    )


def _approvals(given: _Chat) -> list[Answer]:
    """What was answered in the last message, which is ours then."""
    if not given.all or given.all[-1].role != "assistant" or given.trigger == "regenerate-message":
        return []
    return [
        Answer(
            part.approval.approval_id,
            "resolved",
            {"approved": bool(part.approval.approved), "reason": part.approval.reason},
        )
        for part in given.all[-1].parts
        if part.approval is not None and part.approval.approved is not None
    ]


def _start_index(request: Request) -> int | None:
    given = request.query_params.get("startIndex")
    if given is None:
        return None
    try:
        index = int(given)
    except ValueError:
        raise InvalidInput(f"startIndex must be a whole number, not {given!r:.40}", field="startIndex") from None
    if abs(index) > _MAX_INDEX:
        raise InvalidInput(f"startIndex must be within {_MAX_INDEX}", field="startIndex")
    return index


routes = [
    Route("/ai-sdk/{agent}", chat, methods=["POST"], name="ai_sdk"),
    Route("/ai-sdk/{agent}/{chat_id}/stream", again, name="ai_sdk_again"),
]
