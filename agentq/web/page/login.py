"""Where people give the token, once; a cookie remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.web.access import SESSION_COOKIE, SESSION_S
from agentq.web.guard import cookie
from agentq.web.page.rendering import page, see
from agentq.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def show(request: Request) -> Response:
    """The form; whoever needs none is led on."""
    access = site_of(request).access
    if not access.needs_token or access.is_signed_in(request):
        return see(request, "page_runs")
    return page(request, "login.html", is_wrong=False)


async def sign_in(request: Request) -> Response:
    """Begin a session."""
    access = site_of(request).access
    form = await access.form(request)
    given = form.get("token")
    if not isinstance(given, str) or not access.is_token(given.strip()):
        return page(request, "login.html", status=403, is_wrong=True)
    answer = see(request, "page_runs")
    answer.headers.append(
        "set-cookie", cookie(request.scope, SESSION_COOKIE, access.new_session(), max_age_s=SESSION_S)
    )
    return answer


async def sign_out(request: Request) -> Response:
    """Forget the session in this browser."""
    await site_of(request).access.form(request)
    answer = see(request, "page_login")
    answer.headers.append("set-cookie", cookie(request.scope, SESSION_COOKIE, "", max_age_s=0))
    return answer
