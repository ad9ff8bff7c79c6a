"""Puts the application together: the site, what stands before every handler, and the routes of all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from agentq.errors import AgentQError
from agentq.web import api, problems, streams
from agentq.web.access import Access
from agentq.web.guard import Guard
from agentq.web.redaction import Redaction
from agentq.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ExceptionHandler

    from agentq.app import AgentQ
    from agentq.client_async import AsyncClient


def build(
    over: AsyncClient | AgentQ | None,
    *,
    authorize: Callable[..., Any] | None,
    token: str | None,
    read_only: bool,
    redact_arguments: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] | None,
    max_upload_bytes: int | None,
    allowed_hosts: Sequence[str] | None,
    allowed_origins: Sequence[str],
    page: bool,
) -> Starlette:
    """See `agentq.web.web_app`."""
    access = Access(authorize=authorize, token=token, read_only=read_only)
    redaction = Redaction(redact_arguments)
    site = Site(over, access=access, redaction=redaction, max_upload_bytes=max_upload_bytes, has_page=page)
    guard = Middleware(
        Guard,
        access=access,
        max_upload_bytes=site.max_upload_bytes,
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        has_page=page,
    )
    routes: list[BaseRoute] = [*streams.routes, *api.routes]
    answer: ExceptionHandler = problems.answer
    if page:
        # Only where it is wanted: it brings its templates along.
        from agentq.web.page import rendering
        from agentq.web.page import routes as of_page

        routes += of_page
        answer = rendering.answer
    app = Starlette(
        routes=routes,
        middleware=[*_cors(allowed_origins), guard],
        exception_handlers=dict.fromkeys((AgentQError, problems.Problem, HTTPException, Exception), answer),
        lifespan=site.lifespan,
    )
    app.state.site = site
    return app


def _cors(origins: Sequence[str]) -> list[Middleware]:
    """Lets pages of these origins read answers. They bring a token: cookies of ours stay with our own pages."""
    if not origins:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=[origin.rstrip("/") for origin in origins],
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    return [cors]
