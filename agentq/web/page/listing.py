"""The list of runs: filters, search, pages by cursor, and the form that starts one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from agentq.errors import InvalidInput, NotFound
from agentq.runs import PROMPT_EXCERPT, RunState, Status
from agentq.web.access import Action
from agentq.web.page.rendering import form_key, page, see
from agentq.web.problems import Problem
from agentq.web.site import link, site_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.web.site import Site

PAGE = 50
# A search reads so many runs at a time, and then says where it stopped.
_CHUNK = 500
_MOST = 5000
_FILTERS = ("status", "agent", "session_id", "user_id")


@dataclass(frozen=True, slots=True)
class Found:
    """One page of runs; `cursor` is where the next one begins, None where there is none."""

    runs: list[RunState]
    cursor: str | None
    looked_at: int


async def runs(request: Request) -> Response:
    """The list, newest first."""
    site = site_of(request)
    await site.access.allow(request, Action.LIST)
    query = request.query_params
    wanted = {name: query[name] for name in _FILTERS if query.get(name)}
    text, before = query.get("q", "").strip(), query.get("before") or None
    if text and (exact := await _exactly(request, site, text)):
        return see(request, "page_run", run_id=exact)
    try:
        found = await _find(request, site, wanted, text.lower(), before)
    except InvalidInput as error:
        frame = await _frame(request, site, wanted, text)
        return page(request, "runs.html", status=422, **frame, error=str(error), found=None)
    frame = await _frame(request, site, wanted, text)
    older = None if found.cursor is None else _address(request, wanted, q=text, before=found.cursor)
    return page(request, "runs.html", **frame, found=found, older=older, error="", is_first=before is None)


async def _exactly(request: Request, site: Site, text: str) -> str | None:
    """The run whose id, or that of one of whose calls, was pasted into the search."""
    run_id = text.partition(".")[0].upper()
    if len(run_id) != 26 or not run_id.isalnum():
        return None
    try:
        run = await site.client.read(run_id)
    except (NotFound, InvalidInput):  # then it is a word like any other
        return None
    return run.run_id if await site.access.may(request, Action.READ, run) else None


async def _find(request: Request, site: Site, wanted: Mapping[str, str], text: str, before: str | None) -> Found:
    found: list[RunState] = []
    looked_at = 0
    size = _CHUNK if text else PAGE
    while True:
        chunk = await site.client.list(**wanted, before=before, limit=size)
        for run in chunk:
            looked_at, before = looked_at + 1, run.run_id
            if (not text or _matches(run, text)) and await site.access.may(request, Action.READ, run):
                found.append(site.redaction.run(run))
            if len(found) == PAGE:
                break
        is_last = len(chunk) < size and (not chunk or before == chunk[-1].run_id)
        if is_last or len(found) == PAGE or looked_at >= _MOST:
            return Found(found, None if is_last else before, looked_at)


def _matches(run: RunState, text: str) -> bool:
    where = (run.prompt, run.run_id, run.agent, run.session_id, run.user_id, run.last_error)
    return any(text in each.lower() for each in where if each)


def _address(request: Request, wanted: Mapping[str, str], **more: str | None) -> str:
    query = urlencode({name: value for name, value in {**wanted, **more}.items() if value})
    return link(request, "page_runs") + (f"?{query}" if query else "")


async def _frame(request: Request, site: Site, wanted: Mapping[str, str], text: str) -> dict[str, Any]:
    """What stands around the list."""
    others = {name: value for name, value in wanted.items() if name != "status"}
    tabs = [("", "All", _address(request, others, q=text))]
    tabs += [
        (str(status), str(status).capitalize(), _address(request, others, status=status, q=text)) for status in Status
    ]
    return {
        "tabs": tabs,
        "counts": await _counts(request, site) if not others else {},
        "wanted": wanted,
        "text": text,
        "here": _address(request, wanted, q=text),
        "agents": await agents(site),
        "can_start": not site.access.read_only,
    }


async def _counts(request: Request, site: Site) -> Mapping[str, int]:
    """How many runs there are, by status; none where whoever asks may not know, or the store cannot tell."""
    try:
        await site.access.allow(request, Action.STATS)
        return (await site.client.insight.stats()).runs
    except (Problem, InvalidInput):
        return {}


async def agents(site: Site) -> list[str]:
    """The agents that are known."""
    given = () if site.app is None else site.app.agents
    return sorted({*given, *await site.client.agents()})


async def new(request: Request) -> Response:
    """The form that starts a run."""
    site = site_of(request)
    await site.access.allow(request, Action.LIST)
    return page(request, "new.html", agents=await agents(site), error="", given=dict(request.query_params))


async def start(request: Request) -> Response:
    """Start a run. The form brings a key, so that sending it twice starts one."""
    site = site_of(request)
    form = await site.access.form(request)
    given = {name: str(form.get(name) or "").strip() for name in ("agent", "prompt", "session_id", "user_id", "key")}
    agent, prompt = given["agent"], given["prompt"]
    session_id, user_id = given["session_id"] or None, given["user_id"] or None
    proposed = RunState("", agent, Status.QUEUED, prompt[:PROMPT_EXCERPT], session_id=session_id, user_id=user_id)
    who = await site.access.allow(request, Action.START, proposed)
    try:
        run = await site.client.enqueue(
            agent,
            prompt,
            session_id=session_id,
            user_id=user_id or who or None,
            idempotency_key=form_key(given["key"], who),
        )
    except InvalidInput as error:
        names = await agents(site)
        return page(request, "new.html", status=422, agents=names, error=str(error), given=given)
    return see(request, "page_run", run_id=run.id)
