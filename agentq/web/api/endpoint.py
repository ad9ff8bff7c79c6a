"""What an address of the API is: a handler, and models of what it takes and gives, which the document is made from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from agentq import _json
from agentq.errors import InvalidInput
from agentq.web.access import Action
from agentq.web.api.documents import Run
from agentq.web.problems import Problem
from agentq.web.site import Site, link, site_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from starlette.datastructures import FormData
    from starlette.requests import Request

    from agentq.client_async import AsyncClient
    from agentq.runs import RunState

API = "/api/v1"
JSON = "application/json"
FORM = "multipart/form-data"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
# So many fields and files one form may have.
_MAX_PARTS = 200
# Of a key that makes a request safe to be sent again; the name of a user may stand before it.
MAX_KEY_CHARS = 100
# The size of the whole request is limited elsewhere.
_LARGEST_FIELD = 2**31
# What servers write into their logs for a client that went away.
_GONE = 499


class Taken(BaseModel):
    """What a request brings. A field that is not known is refused: it would be a mistake in its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # In a form these fields are JSON, and all others text.
    in_json: ClassVar[frozenset[str]] = frozenset()


class Nothing(Taken):
    """Nothing is taken."""


B = TypeVar("B", bound=Taken)
Q = TypeVar("Q", bound=Taken)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked(Generic[B, Q]):
    """A request that was read and checked: its body and its query."""

    request: Request
    site: Site
    body: B
    query: Q
    form: FormData | None = None

    @property
    def client(self) -> AsyncClient:
        return self.site.client

    def named(self, name: str) -> str:
        """A part of the path."""
        value: str = self.request.path_params[name]
        return value

    async def run(self, action: Action) -> tuple[RunState, str]:
        """The run that the path names and who asks. Raises `RunNotFound`, and `Problem` when they may not."""
        run = await self.client.read(self.named("run_id"))
        return run, await self.allow(action, run)

    async def allow(self, action: Action, run: RunState | None = None) -> str:
        """Who asks. Raises `Problem` when they may not."""
        return await self.site.access.allow(self.request, action, run)

    def document(self, run: RunState) -> Run:
        """A run as it is shown."""
        return Run.model_validate(self.site.redaction.run(run))

    async def shown(self, runs: Iterable[RunState]) -> list[RunState]:
        """Those of the runs that whoever asks may read."""
        return [run for run in runs if await self.site.access.may(self.request, Action.READ, run)]

    def link(self, name: str, **params: Any) -> str:
        """The path of another address of ours."""
        return link(self.request, name, **params)

    async def unless_gone(self, waiting: Coroutine[Any, Any, T]) -> T:
        """What is waited for; whoever asked and goes away meanwhile ends the waiting. Raises `ClientDisconnect`."""
        wait = asyncio.create_task(waiting)
        gone = asyncio.create_task(_disconnected(self.request))
        try:
            await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not wait.done():
                raise ClientDisconnect
            return wait.result()
        finally:
            wait.cancel()
            gone.cancel()
            await asyncio.gather(wait, gone, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one address. `answers` are models or media types by status, the usual one first.

    Its summary and description are the handler's docstring. `problems` are statuses that it may answer with, beside
    those that any may.
    """

    method: str
    path: str
    handler: Callable[[Asked[Any, Any]], Awaitable[BaseModel | Response]]
    tag: str
    answers: Mapping[int, type[BaseModel] | str | None]
    body: type[Taken] = Nothing
    query: type[Taken] = Nothing
    takes_form: bool = False
    problems: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    name: str = field(default="")

    @property
    def called(self) -> str:
        """Its name for links, and in the document."""
        return self.name or self.handler.__name__

    async def serve(self, request: Request) -> Response:
        """Read, check, ask the handler, and write down what it says."""
        try:
            query = _query(self.query, request)
            body, form = await self._read(request)
            given = await self.handler(Asked(request, site_of(request), body, query, form))
        except ClientDisconnect:
            return Response(status_code=_GONE)  # which nobody sees
        finally:
            await request.close()
        return given if isinstance(given, Response) else reply(given, next(iter(self.answers)))

    async def _read(self, request: Request) -> tuple[Taken, FormData | None]:
        if self.body is Nothing:
            return Nothing(), None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.takes_form and kind == FORM:
            form = await request.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_LARGEST_FIELD)
            if _is_of_browser(request):
                site_of(request).access.check_form(request, form)
            return _checked_form(self.body, form), form
        # A form of any page can be sent here by a browser, but none of this type.
        if kind and kind != JSON:
            takes = f"{JSON} or {FORM}" if self.takes_form else JSON
            raise Problem(415, "unsupported_media_type", f"send {takes}, not {kind:.80}")
        return _checked(self.body, await request.body() or b"{}"), None


def reply(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as an answer."""
    return Response(model.model_dump_json(), status, headers, media_type=JSON)


def routes_of(endpoints: Sequence[Endpoint]) -> list[Route]:
    """One route for each address, so that another method than its own is told which there are."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, methods: Mapping[str, Endpoint]) -> Route:
    allowed = ", ".join([*methods, *(("HEAD",) if "GET" in methods else ())])

    async def serve(request: Request) -> Response:
        endpoint = methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            raise Problem(
                405, "method_not_allowed", f"{request.method} is not among {allowed}", headers={"Allow": allowed}
            )
        return await endpoint.serve(request)

    first = next(iter(methods.values()))
    # All methods: an address of which this one is a special case would take the others.
    return Route(path, serve, methods=_METHODS, name=first.called)


def _query(model: type[Q], request: Request) -> Q:
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidInput(f"{name} is given twice", field=name)
        given[name] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as error:
        raise _invalid(error) from error


def _checked(model: type[B], data: bytes) -> B:
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise _invalid(error) from error


def _checked_form(model: type[B], form: FormData) -> B:
    """The fields of a form: text as it is, all else as JSON. Files are left to the handler."""
    given: dict[str, Any] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            if name != "files":
                raise InvalidInput(f"{name} is a file; files go into the field files", field=name)
            continue
        if name == "csrf_token":
            continue
        if name in given:
            raise InvalidInput(f"{name} is given twice", field=name)
        given[name] = _from_json(name, value) if name in model.in_json else value
    return _checked(model, _json.dumps(given))


def _from_json(name: str, text: str) -> Any:
    try:
        return _json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{name} must be JSON in a form: {error}", field=name) from error


def _invalid(error: ValidationError) -> Exception:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return Problem(400, "malformed", f"the body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"][:1].lower() + first["msg"][1:]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidInput(f"{where or 'the body'}: {message}{more}", field=where or None)


def _is_of_browser(request: Request) -> bool:
    """Whether it may be of a browser, which sends what any page makes it send."""
    headers = request.headers
    return "origin" in headers or "sec-fetch-site" in headers or "cookie" in headers


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
