"""What is refused and what went wrong as problem documents (RFC 9457). The only place where an error gets a status."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from agentq import errors
from agentq.web.headers import HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
# When to ask again where Redis is away, in seconds: its clients try for about as long.
_AGAIN_S = "2"

# An exception has the status of its nearest base that is named here. A test holds this against `agentq.errors`.
STATUS_OF: Mapping[type[errors.AgentQError], int] = {
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.DecisionRefused: 403,
    errors.PolicyRefused: 403,
    errors.ResultTimeout: 504,
    errors.StoreUnavailable: 503,
    errors.AgentQError: 500,
}

# The codes of problems that are none of `agentq.errors`, with their titles.
TITLES: Mapping[str, str] = {
    "not_authenticated": "The token is missing or wrong.",
    "not_allowed": "Whoever asks may not do this.",
    "read_only": "This server changes nothing.",
    "cross_site": "The request comes from a page of another site.",
    "csrf": "The form was not made by this server, or is too old.",
    "unknown_host": "This server does not answer for that host.",
    "too_large": "The request is too large.",
    "unsupported_media_type": "The body is of a kind that is not taken here.",
    "malformed": "The request cannot be read.",
    "no_such_address": "There is nothing at this address.",
    "method_not_allowed": "This address does not take that method.",
    "not_available": "The store of this server cannot tell that.",
    "redacted": "What is asked for cannot be given with its arguments redacted.",
    "internal": "Something went wrong here; the log of the server has more.",
}
_OF_STATUS = {404: "no_such_address", 405: "method_not_allowed", 413: "too_large"}


class Problem(Exception):
    """A request is refused, with the problem document that says why."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str | None = None,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or TITLES[code])
        self.status = status
        self.code = code
        self.field = field
        self.headers = dict(headers or {})


def code_of(error: type[errors.AgentQError]) -> str:
    """The code of an exception: `RunNotFound` is `run_not_found`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower()


def title_of(error: type[errors.AgentQError]) -> str:
    """What is true of every problem with the code of this exception: the first line of its docstring."""
    return (error.__doc__ or "").split("\n")[0].strip()


def status_of(error: errors.AgentQError) -> int:
    """The HTTP status of an exception."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def document(status: int, code: str, title: str, detail: str, field: str | None = None) -> dict[str, Any]:
    """A problem document."""
    found: dict[str, Any] = {
        "type": f"urn:agentq:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return found if field is None else {**found, "field": field}


def response(error: Exception) -> Response:
    """The answer to a request that ended with this exception. What is a bug of ours is not told."""
    headers: dict[str, str] = {}
    match error:
        case Problem():
            content = document(error.status, error.code, TITLES[error.code], str(error), error.field)
            headers = error.headers
        case errors.AgentQError():
            kind, status = type(error), status_of(error)
            content = document(status, code_of(kind), title_of(kind), str(error), getattr(error, "field", None))
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                headers = {"Retry-After": _AGAIN_S}
        case HTTPException():
            code = _OF_STATUS.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
            if error.status_code in (401, 403):
                code = "not_authenticated" if error.status_code == 401 else "not_allowed"
            content = document(error.status_code, code, TITLES[code], error.detail)
            headers = dict(error.headers or {})
        case _:
            content = document(500, "internal", TITLES["internal"], TITLES["internal"])
            # It is answered outside of what adds them to the others.
            headers = {**HEADERS, "cache-control": "no-store"}
    return JSONResponse(content, content["status"], headers=headers, media_type=MEDIA_TYPE)


async def answer(request: Request, error: Exception) -> Response:
    """`response` as Starlette's handler of exceptions."""
    return response(error)
