"""Runs: start one, read it, list them, wait for a result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.responses import Response

from agentq.attachments import File
from agentq.errors import InvalidInput, ResultTimeout, RunError
from agentq.messages import FilePart, Usage
from agentq.runs import RunState, Status
from agentq.web.access import Action
from agentq.web.api.documents import Messages, Reason, Result, Run, Runs, Started
from agentq.web.api.endpoint import API, MAX_KEY_CHARS, Endpoint, reply, routes_of
from agentq.web.api.requests import ListRuns, StartRun, TimesToLive, Wait, files_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.datastructures import FormData
    from starlette.requests import Request

    from agentq.messages import Message
    from agentq.web.api.endpoint import Asked, B, Nothing, Q

_RUN = f"{API}/runs/{{run_id}}"
# What a browser may show in place: nothing that runs scripts.
_SHOWN_IN_PLACE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_BYTES = "application/octet-stream"


async def start_run(asked: Asked[StartRun, Nothing]) -> Response:
    """Start a run.

    The same Idempotency-Key with the same input gives the run that it made before, with 200 in place of 201; with other
    input it is a conflict. `authorize` is asked with a run that has no id yet.
    """
    body = asked.body
    who = await asked.allow(
        Action.START, proposed(body.agent, prompt=body.prompt, session_id=body.session_id, user_id=body.user_id)
    )
    run = await asked.client.enqueue(
        body.agent,
        body.prompt,
        session_id=body.session_id,
        user_id=body.user_id or who or None,
        metadata=body.metadata,
        queue=body.queue,
        model=body.model,
        idempotency_key=idempotency_key(asked.request, who),
        delay=body.delay_s,
        at=body.at,
        tools=body.tools,
        without=body.without,
        when_busy=body.when_busy,
        ttl_s=_ttl_s(body.ttl_s),
        limits=body.limits,
        concurrency_key=body.concurrency_key,
        concurrency=body.concurrency,
        tenant=body.tenant,
        priority=body.priority,
        files=[*files_of(body.files), *await uploads(asked.form)],
    )
    return started(asked, run.id, run.agent, is_new=run.is_new)


def _ttl_s(given: float | TimesToLive | None) -> float | dict[str, float] | None:
    return given.model_dump(exclude_none=True) if isinstance(given, TimesToLive) else given


async def list_runs(asked: Asked[Nothing, ListRuns]) -> Runs:
    """List runs, newest first.

    Runs that whoever asks may not read are left out, so a page may have fewer than `limit`, and yet a `next_cursor`.
    """
    await asked.allow(Action.LIST)
    query = asked.query
    found = await asked.client.list(
        status=query.status,
        agent=query.agent,
        session_id=query.session_id,
        user_id=query.user_id,
        before=query.cursor,
        limit=query.limit,
    )
    shown = await asked.shown(found)
    more = found[-1].run_id if len(found) == query.limit else None
    return Runs(runs=tuple(map(asked.document, shown)), next_cursor=more)


async def read_run(asked: Asked[Nothing, Nothing]) -> Run:
    """Read a run."""
    run, _ = await asked.run(Action.READ)
    return asked.document(run)


async def read_messages(asked: Asked[Nothing, Nothing]) -> Messages:
    """Read the transcript of a run, as it stands."""
    run, _ = await asked.run(Action.READ)
    messages = await asked.client.messages(run.run_id)
    return Messages(messages=tuple(map(asked.site.redaction.message, messages)))


async def read_result(asked: Asked[Nothing, Wait]) -> Response:
    """Read how a run ended, waiting up to `wait` seconds for it.

    202 says that it has not ended; ask again. How it ended is no error here: `status` and `error` tell.
    """
    run, _ = await asked.run(Action.READ)
    if not run.status.is_final and asked.query.wait:
        await asked.unless_gone(_ended(asked, run.run_id))
        run = await asked.client.read(run.run_id)
    result = await asked.client.outcome(run.run_id)
    document = Result(
        run_id=run.run_id,
        status=run.status,
        output=None if result is None else result.output,
        error=run.last_error if run.status is Status.FAILED else run.cancel_reason,
        usage=Usage.model_validate(dict(run.usage)),
    )
    return reply(document, 200 if run.status.is_final else 202)


async def _ended(asked: Asked[Nothing, Wait], run_id: str) -> None:
    try:
        await asked.client.result(run_id, asked.query.wait)
    except (ResultTimeout, RunError):
        return  # what it is now is read anew


async def read_why(asked: Asked[Nothing, Nothing]) -> Reason:
    """Say why a run is not moving, or how it ended."""
    run, _ = await asked.run(Action.READ)
    return Reason.model_validate(await asked.client.why(run.run_id))


async def read_file(asked: Asked[Nothing, Nothing]) -> Response:
    """Read a file that the messages of a run refer to, by its SHA-256 in hex."""
    run, _ = await asked.run(Action.READ)
    digest = asked.named("digest")
    content = await asked.client.file(run.run_id, digest)
    part = next((part for part in _files(await asked.client.messages(run.run_id)) if part.digest == digest), None)
    media_type = _BYTES if part is None or part.media_type not in _SHOWN_IN_PLACE else part.media_type
    where = "attachment" if media_type == _BYTES else "inline"
    headers = {"Content-Disposition": where, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(content, media_type=media_type, headers=headers)


def _files(messages: tuple[Message, ...]) -> Iterator[FilePart]:
    for message in messages:
        for part in message.parts:
            if isinstance(part, FilePart):
                yield part
            yield from getattr(part, "files", ())


def proposed(agent: str, *, prompt: str = "", session_id: str | None = None, user_id: str | None = None) -> RunState:
    """A run that is not there, for `authorize`: it has no id."""
    return RunState("", agent, Status.QUEUED, prompt[:200], session_id=session_id, user_id=user_id)


def idempotency_key(request: Request, who: str) -> str | None:
    """The key that the request brings. Each user has keys of their own: another's must not lead to their runs."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (key.isascii() and key.isprintable() and 0 < len(key) <= MAX_KEY_CHARS):
        raise InvalidInput(
            f"Idempotency-Key must have 1 to {MAX_KEY_CHARS} characters of ASCII", field="Idempotency-Key"
        )
    return f"{who}:{key}" if key and who else key


async def uploads(form: FormData | None) -> list[File]:
    """The files of a form."""
    if form is None:
        return []
    files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
    contents = await asyncio.gather(*[each.read() for each in files])
    return [
        # Browsers say this of what they do not know; the name or the content may tell more.
        File(content, each.filename or None, None if each.content_type in (None, "", _BYTES) else each.content_type)
        for each, content in zip(files, contents, strict=True)
    ]


def started(asked: Asked[B, Q], run_id: str, agent: str, *, is_new: bool) -> Response:
    """The answer to whoever started a run."""
    headers = {"Location": asked.link("read_run", run_id=run_id)}
    return reply(Started(run_id=run_id, agent=agent, is_new=is_new), 201 if is_new else 200, headers)


endpoints = [
    Endpoint(
        "POST", f"{API}/runs", start_run, "runs", {201: Started, 200: Started}, body=StartRun, takes_form=True,
        headers=("Idempotency-Key",), problems=(409, 415),
    ),
    Endpoint("GET", f"{API}/runs", list_runs, "runs", {200: Runs}, query=ListRuns),
    Endpoint("GET", _RUN, read_run, "runs", {200: Run}, problems=(404,)),
    Endpoint("GET", f"{_RUN}/messages", read_messages, "runs", {200: Messages}, problems=(404,)),
    Endpoint("GET", f"{_RUN}/result", read_result, "runs", {200: Result, 202: Result}, query=Wait, problems=(404,)),
    Endpoint("GET", f"{_RUN}/why", read_why, "runs", {200: Reason}, problems=(404,)),
    Endpoint("GET", f"{_RUN}/files/{{digest}}", read_file, "runs", {200: _BYTES}, problems=(404,)),
]  # fmt: skip
routes = routes_of(endpoints)
