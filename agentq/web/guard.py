"""What stands before every handler: hosts, the token, pages of other sites, the size of requests, security headers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from agentq.web.access import CSRF_COOKIE
from agentq.web.headers import HEADERS
from agentq.web.problems import Problem, response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agentq.web.access import Access

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Whoever has no token may come here: it says nothing of runs, or is where the token is given.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login"})
# What pages are made of: it lies in the wheel for anybody to see.
_STATIC = "/static/"


class Guard:
    """The middleware. What it refuses never reaches a handler, and handlers cannot forget to ask it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        max_upload_bytes: int,
        allowed_hosts: Sequence[str] | None,
        allowed_origins: Sequence[str],
        has_page: bool,
    ) -> None:
        self._app = app
        self._access = access
        self._max_upload_bytes = max_upload_bytes
        self._hosts = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._has_page = has_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Where we are mounted: routers below change `root_path`.
        scope["agentq_root"] = scope.get("root_path", "")
        request = HTTPConnection(scope)
        guarded = self._with_headers(scope, send)
        try:
            self._check(request)
        except Problem as problem:
            if self._is_page(request) and problem.code == "not_authenticated":
                to = RedirectResponse(f"{scope['agentq_root']}/login", 303)
                await to(scope, receive, guarded)
            else:
                await response(problem)(scope, receive, guarded)
            return
        await self._app(scope, self._limited(receive), guarded)

    def _check(self, request: HTTPConnection) -> None:
        if self._hosts is not None and _host(request) not in self._hosts:
            # A page of a stranger whose name leads to this machine would be of our origin (DNS rebinding).
            raise Problem(421, "unknown_host", f"this server does not answer for the host {_host(request)!r:.80}")
        size = request.headers.get("content-length", "")
        if size.isascii() and size.isdigit() and int(size) > self._max_upload_bytes:
            raise self._too_large()
        is_bearer = self._access.is_bearer(request)
        if (
            self._access.needs_token
            and not (is_bearer or self._access.is_signed_in(request))
            and not is_open(_path(request))
        ):
            raise Problem(
                401,
                "not_authenticated",
                "send the token of this server: Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if request.scope["method"] not in SAFE and not is_bearer:
            self._check_origin(request)

    def _check_origin(self, request: HTTPConnection) -> None:
        """A browser says where a request comes from; what is no browser says nothing, and has no cookies to abuse."""
        origin = request.headers.get("origin", "").lower()
        if origin in self._origins:
            return
        fetched = request.headers.get("sec-fetch-site")
        if fetched is not None and fetched not in ("same-origin", "none"):
            raise Problem(403, "cross_site")
        # Not the scheme: behind a proxy that ends TLS we do not know ours. "null" is a sandboxed frame, or a file.
        if origin and fetched is None and urlsplit(origin).netloc != request.headers.get("host", "").lower():
            raise Problem(403, "cross_site")

    def _is_page(self, request: HTTPConnection) -> bool:
        accepts = request.headers.get("accept", "")
        is_api = _path(request).startswith("/api/")
        return self._has_page and not is_api and request.scope["method"] == "GET" and "text/html" in accepts

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a request may have {self._max_upload_bytes} bytes at most")

    def _limited(self, receive: Receive) -> Receive:
        """Counts what comes: a length need not be announced, nor true."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_upload_bytes:
                raise self._too_large()
            return message

        return counted

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                if "agentq_csrf" in scope:
                    headers.append("set-cookie", cookie(scope, CSRF_COOKIE, scope["agentq_csrf"]))
            await send(message)

        return with_headers


def cookie(scope: Scope, name: str, value: str, *, max_age_s: int | None = None) -> str:
    """A cookie for our part of the host alone, which no script and no other site gets."""
    parts = [f"{name}={value}", f"Path={scope.get('agentq_root') or '/'}", "HttpOnly", "SameSite=Strict"]
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    if scope.get("scheme") == "https":
        parts.append("Secure")
    return "; ".join(parts)


def is_open(path: str) -> bool:
    """Whether nobody is asked for the token there."""
    return path in OPEN_PATHS or path.startswith(_STATIC)


def _host(request: HTTPConnection) -> str:
    host = request.headers.get("host", "").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _path(request: HTTPConnection) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope["agentq_root"])
