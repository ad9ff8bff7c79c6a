"""Who may do what: the token, the hook, read-only mode, forms of our own pages. Changes are logged."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import logging
import secrets
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from agentq.errors import InvalidInput, PolicyRefused
from agentq.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.datastructures import FormData
    from starlette.requests import HTTPConnection, Request

    from agentq.runs import RunState

logger = logging.getLogger(__name__)

SESSION_COOKIE = "agentq_session"
CSRF_COOKIE = "agentq_csrf"
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "x-csrf-token"
# How long a browser stays signed in, in seconds.
SESSION_S = 7 * 86_400
# A token that can be guessed is none.
_MIN_TOKEN_CHARS = 16


class Action(StrEnum):
    """What `authorize` is asked about."""

    READ = "read"
    LIST = "list"
    STATS = "stats"
    EXPORT = "export"
    START = "start"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    FORK = "fork"
    STEER = "steer"
    FOLLOW_UP = "follow_up"
    APPROVE = "approve"
    DENY = "deny"
    ANSWER = "answer"
    SIGNAL = "signal"
    SET_LIMITS = "set_limits"
    DELETE_SESSION = "delete_session"
    PAUSE_ALL = "pause_all"
    RESUME_ALL = "resume_all"
    SCHEDULE = "schedule"


LOOKING = frozenset({Action.READ, Action.LIST, Action.STATS, Action.EXPORT})


class Access:
    """The rules of one site."""

    def __init__(
        self,
        *,
        authorize: Callable[..., Any] | None = None,
        token: str | None = None,
        read_only: bool = False,
    ) -> None:
        if authorize is not None and not callable(authorize):
            raise InvalidInput("authorize must be a function of request, action and run", field="authorize")
        if token is not None and (not isinstance(token, str) or len(token) < _MIN_TOKEN_CHARS):
            raise InvalidInput(
                f"token must have at least {_MIN_TOKEN_CHARS} characters: openssl rand -hex 32 makes one", field="token"
            )
        self._authorize = authorize
        self._token = token
        self.read_only = read_only
        # Cookies outlive the process, and all processes of one deployment take them.
        self._key = hashlib.sha256(b"agentq web session " + token.encode()).digest() if token is not None else b""

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    @property
    def has_hook(self) -> bool:
        """Whether what one may read depends on who one is."""
        return self._authorize is not None

    async def allow(self, request: HTTPConnection, action: Action, run: RunState | None = None) -> str:
        """Who does this, as far as it is known. Raises `Problem` when they may not.

        Ask it in every handler, once the run is known. A change that is allowed is logged.
        """
        if self.read_only and action not in LOOKING:
            raise Problem(403, "read_only", "this server is read-only: it shows runs, and changes nothing")
        who = await self._asked(request, action, run)
        if action not in LOOKING:
            run_id = None if run is None else run.run_id
            logger.info(
                "%s%s by %s",
                action,
                f" of run {run_id}" if run_id else "",
                who or "somebody",
                extra={"action": str(action), "run_id": run_id, "by": who},
            )
        return who

    async def may(self, request: HTTPConnection, action: Action, run: RunState | None) -> bool:
        """Whether `allow` would: for lists, which leave out what one may not read."""
        if not self.has_hook:
            return True
        try:
            await self._asked(request, action, run)
        except Problem:
            return False
        return True

    async def _asked(self, request: HTTPConnection, action: Action, run: RunState | None) -> str:
        if self._authorize is None:
            return ""
        try:
            if inspect.iscoroutinefunction(self._authorize):
                answer = await self._authorize(request, action, run)
            else:
                answer = await run_in_threadpool(self._authorize, request, action, run)
                if inspect.isawaitable(answer):
                    answer = await answer
        except (PermissionError, PolicyRefused) as error:
            raise Problem(403, "not_allowed", str(error) or None) from error
        if not answer:
            raise Problem(403, "not_allowed", f"whoever asks may not {str(action).replace('_', ' ')} here")
        return answer if isinstance(answer, str) else ""

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes the same time whatever is wrong with it."""
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def is_bearer(self, request: HTTPConnection) -> bool:
        """Whether the request brings the token in its header, which no page of another site can make a browser do."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given.strip())

    def is_signed_in(self, request: HTTPConnection) -> bool:
        """Whether the browser has a session that was begun with the token and has not run out."""
        until, _, mark = request.cookies.get(SESSION_COOKIE, "").partition(".")
        if self._token is None or not (until.isascii() and until.isdigit()) or int(until) < time.time():
            return False
        return hmac.compare_digest(mark.encode(), self._mark(until).encode())

    def new_session(self) -> str:
        """The value of the cookie of somebody who has just given the token."""
        until = str(int(time.time()) + SESSION_S)
        return f"{until}.{self._mark(until)}"

    def _mark(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()

    def csrf_token(self, request: HTTPConnection) -> str:
        """What forms of our pages bring along; the answer sets the cookie that it is compared with."""
        token: str = request.scope.get("agentq_csrf") or request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(24)
        request.scope["agentq_csrf"] = token
        return token

    async def form(self, request: Request, **limits: Any) -> FormData:
        """The form of one of our own pages. Raises `Problem` when another site may have made it."""
        form = await request.form(**limits)
        self.check_form(request, form)
        return form

    def check_form(self, request: HTTPConnection, form: Mapping[str, Any]) -> None:
        """Raise `Problem` unless the form, or the header, brings the value of the cookie."""
        if self.is_bearer(request):
            return
        given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD)
        cookie = request.cookies.get(CSRF_COOKIE, "")
        if not cookie or not isinstance(given, str) or not hmac.compare_digest(given.encode(), cookie.encode()):
            raise Problem(403, "csrf", "this form is not one of this server, or too old: load the page again")
