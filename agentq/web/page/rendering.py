"""Pages from templates, and errors as pages."""

from __future__ import annotations

from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from agentq import _ids, _json
from agentq.web import problems
from agentq.web.access import CSRF_FIELD, Action
from agentq.web.page import assets, marks, words
from agentq.web.site import link, site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.runs import RunState

# A key is of our own making, and short; somebody else's may be long.
_MAX_KEY = 200
# Of the headers of a problem document, those that a page has, too.
_KEPT = ("allow", "retry-after", "www-authenticate")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(assets.HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.filters["said"] = marks.said
    environment.globals.update(now_ms=words.now_ms, new_key=_ids.new_token, compactions=marks.COMPACTIONS)
    return environment


def render(request: Request, template: str, **context: Any) -> str:
    """The text of a template."""
    site = site_of(request)
    return (
        _environment()
        .get_template(template)
        .render(
            link=partial(address, request),
            asset=partial(assets.address, request),
            read_only=site.access.read_only,
            signed_in=site.access.needs_token and site.access.is_signed_in(request),
            csrf_field=CSRF_FIELD,
            csrf_token=partial(site.access.csrf_token, request),
            path=request.scope["path"].removeprefix(request.scope["agentq_root"]),
            **context,
        )
    )


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    """A page."""
    return HTMLResponse(render(request, template, **context), status)


def see(request: Request, name: str, /, **params: Any) -> Response:
    """The answer to a form: look there now."""
    return RedirectResponse(address(request, name, **params), HTTPStatus.SEE_OTHER)


def address(request: Request, name: str, /, **params: Any) -> str:
    """The path of a route of ours, with whatever may stand in ids."""
    return link(request, name, **{key: quote(str(value), safe="") for key, value in params.items()})


def form_key(given: object, who: str) -> str | None:
    """The key that makes a form safe to be sent twice. It leads to no run that somebody else has made."""
    return f"page:{given[:64]}:{who}"[:_MAX_KEY] if isinstance(given, str) and given else None


async def answer(request: Request, error: Exception) -> Response:
    """What went wrong: as a page for people, as a problem document for programs."""
    root = request.scope.get("agentq_root")
    is_api = root is None or request.scope["path"].removeprefix(root).startswith("/api/")
    if is_api or "text/html" not in request.headers.get("accept", ""):
        return problems.response(error)
    return refusal(request, error)


def refusal(request: Request, error: Exception) -> Response:
    """The problem document as a page."""
    told = problems.response(error)
    if told.status_code < HTTPStatus.BAD_REQUEST:  # `authorize` sends them elsewhere
        return told
    problem = _json.loads(bytes(told.body))
    title, detail = problem["title"], problem["detail"]
    if detail in (title, HTTPStatus(told.status_code).phrase):  # which says no more than the title does
        detail = ""
    context = {"title": title.partition(":")[0].removesuffix("."), "detail": detail, "code": told.status_code}
    answer = page(request, "error.html", status=told.status_code, run_id=request.path_params.get("run_id"), **context)
    for name in _KEPT:
        if name in told.headers:
            answer.headers[name] = told.headers[name]
    return answer


async def allowed(request: Request, run: RunState | None, *actions: Action) -> frozenset[str]:
    """Which of the actions whoever asks may take, so that no button is shown which is refused."""
    access = site_of(request).access
    if access.read_only:
        return frozenset()
    return frozenset([str(action) for action in actions if await access.may(request, action, run)])
