"""What AG-UI clients ask for: POST a run, and GET it again from where they were cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from starlette.routing import Route

from agentq.errors import InvalidInput, RunNotFound
from agentq.messages import user_message
from agentq.web.access import Action
from agentq.web.site import site_of
from agentq.web.streams import bodies, projecting
from agentq.web.streams.ag_ui import AGUIFold
from agentq.web.streams.frames import START, Turn, position, turn
from agentq.web.streams.history import from_transcript
from agentq.web.streams.resuming import Answer, resume
from agentq.web.streams.serving import RETRY_MS, Stream
from agentq.web.streams.starting import Prompt, data_file, file_of, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.attachments import File
    from agentq.messages import Message
    from agentq.runs import RunState
    from agentq.web.site import Site
    from agentq.web.streams.frames import Body


class _Resume(bodies.Given):
    interrupt_id: str = Field(alias="interruptId")
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class _Context(bodies.Given):
    description: str
    value: str


class RunAgentInput(bodies.Given):
    """The body of a POST, as far as it is used: tools and state of the front end are not."""

    thread_id: str = Field(alias="threadId")
    run_id: str = Field(alias="runId", min_length=1, max_length=200)
    messages: tuple[dict[str, Any], ...]
    context: tuple[_Context, ...] = ()
    forwarded_props: Any = Field(None, alias="forwardedProps")
    resume: tuple[_Resume, ...] = ()


async def run_agent(request: Request) -> Response:
    """Start the run, or attach to the one that the same `runId` has started, or hand on answers; and stream the turn.

    `Last-Event-ID` goes on after a frame.
    """
    site = site_of(request)
    given = await bodies.read(request, RunAgentInput)
    if given.resume:
        answers = [Answer(each.interrupt_id, each.status, each.payload) for each in given.resume]
        run, on = await resume(site, request, answers)
    else:
        run = await _start(site, request, given)
        on = Turn(run.run_id)
    return _stream(request, site, on, given.thread_id, given.run_id, given.messages)


async def join(request: Request) -> Response:
    """The stream of a turn again, by the name that the header `X-Run-Id` gave; `Last-Event-ID` goes on after a frame.

    `runId` in the query is what the client calls the turn.
    """
    site = site_of(request)
    on = turn(request.path_params["turn"])
    if on is None:
        raise RunNotFound.of(request.path_params["turn"])
    run = await site.client.read(on.run_id)
    await site.access.allow(request, Action.READ, run)
    told: dict[str, Any] = dict(run.metadata.get("ag_ui", {}))
    thread_id = told.get("thread_id") or run.session_id or run.run_id
    run_id = request.query_params.get("runId") or (told.get("run_id") if not on.after else None) or str(on)
    return _stream(request, site, on, thread_id, run_id, await _history(site, run))


def _stream(request: Request, site: Site, on: Turn, thread_id: str, run_id: str, history: Sequence[Body]) -> Stream:
    cursor = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
    seen = position(cursor) if cursor else START
    fold = AGUIFold(thread_id, run_id, history=history, file_url=projecting.file_urls(request, on.run_id))
    made = projecting.frames(site, on.run_id, fold, begins_after=on.after)
    return Stream(
        projecting.chunks(made, projecting.past(seen), begin=f"retry: {RETRY_MS}\n\n"),
        beat_s=site.settings.heartbeat_ms / 1000,
        headers={"x-run-id": str(on)},
    )


async def _start(site: Site, request: Request, given: RunAgentInput) -> RunState:
    asking = [message for message in given.messages if message.get("role") == "user"]
    if not asking:
        raise InvalidInput("messages: there is no message of a user", field="messages")
    told = {"thread_id": given.thread_id, "run_id": given.run_id}
    context = {"context": [each.model_dump() for each in given.context]} if given.context else {}
    return await start(
        site,
        request,
        request.path_params["agent"],
        _prompt(asking[-1].get("content")),
        session_id=given.thread_id,
        key=("ag-ui", given.run_id),
        metadata={"ag_ui": {**told, **context}},
    )


def _prompt(content: Any) -> Prompt:
    if isinstance(content, str):
        return Prompt(content)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidInput("messages: content must be text, or a list of parts", field="messages")
    text = "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    return Prompt(text, [_file(part) for part in content if part.get("type") != "text"])


def _file(part: dict[str, Any]) -> File:
    source: Any = part.get("source")
    metadata = part.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    match source:
        case {"type": "data", "value": str(data), "mimeType": str(media_type)}:
            return data_file(data, media_type, name)
        case {"type": "url", "value": str(url)}:
            return file_of(url, source.get("mimeType"), name)
    raise InvalidInput(f"messages: a part of type {part.get('type')!r:.40} cannot be read", field="messages")


async def _history(site: Site, run: RunState) -> list[dict[str, Any]]:
    """The conversation before the run and its prompt, for a client that brings none."""
    earlier: tuple[Message, ...] = ()
    if run.session_id is not None and run.history_length:
        earlier = (await site.client.session_messages(run.session_id))[: run.history_length]
    asked = (await site.client.messages(run.run_id))[:1] or (user_message(run.prompt),)
    told = [*from_transcript(run.session_id or "", map(site.redaction.message, earlier))]
    return [*told, *from_transcript(run.run_id, map(site.redaction.message, asked))]


routes = [
    Route("/ag-ui/{agent}", run_agent, methods=["POST"], name="ag_ui"),
    Route("/ag-ui/{agent}/{turn}", join, name="ag_ui_again"),
]
