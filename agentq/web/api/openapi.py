"""The OpenAPI document, made from the endpoints and their models. Nothing in it is written by hand twice."""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentq.web import problems
from agentq.web.api.documents import Problem
from agentq.web.api.endpoint import FORM, JSON, MAX_KEY_CHARS, Nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

    from agentq.web.api.endpoint import Endpoint

_REF = "#/components/schemas/{model}"
# What any address may answer: who asks is not known or may not, the request is wrong, Redis is away.
_ANY = (400, 401, 403, 413, 415, 421, 422, 500, 503)
_HEADERS = {
    "Idempotency-Key": "Makes it safe to send again: with the same input, it gives the run that it made before.",
}
_TAGS = {
    "runs": "Start runs, read them, wait for their results.",
    "steering": "What is done to a run from outside.",
    "people": "What people say to runs that wait for them.",
    "sessions": "Conversations that several runs share.",
    "schedules": "Prompts that workers enqueue by cron.",
    "operating": "Figures, queues, workers, agents, pauses.",
    "archive": "Exports that `agentq import` reads.",
    "health": "For load balancers and orchestrators.",
}


def route(endpoints: Sequence[Endpoint]) -> Route:
    """The address of the document."""

    @cache
    def made() -> dict[str, Any]:
        return document(endpoints)

    async def openapi(request: Request) -> Response:
        """The document; `servers` says where this application is mounted."""
        return JSONResponse({**made(), "servers": [{"url": request.scope["agentq_root"] or "/"}]})

    return Route("/openapi.json", openapi, name="openapi")


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document without its servers."""
    endpoints = list(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = re.sub(r":path\}", "}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agentq",
            "version": _version(),
            "description": "A durable agent loop on a Redis-queue worker pool: runs, sessions, people, figures.",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        # Where the site has no token none is needed.
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(endpoints),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "It was refused, or went wrong (RFC 9457).",
                    "content": {problems.MEDIA_TYPE: {"schema": _ref(Problem)}},
                }
            },
        },
    }


def _operation(endpoint: Endpoint, path: str) -> dict[str, Any]:
    text = inspect.cleandoc(endpoint.handler.__doc__ or "")
    summary, _, description = text.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": summary.replace("\n", " "),
        "tags": [endpoint.tag],
        "parameters": [*_path_parameters(path), *_query_parameters(endpoint), *_headers(endpoint)],
        "responses": {str(status): _answer(given) for status, given in endpoint.answers.items()},
    }
    if description:
        operation["description"] = description.replace("\n", " ")
    if endpoint.body is not Nothing:
        operation["requestBody"] = _body(endpoint)
    for status in sorted({*_ANY, *endpoint.problems} - set(endpoint.answers)):
        operation["responses"][str(status)] = {"$ref": "#/components/responses/Problem"}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = endpoint.query.model_json_schema(ref_template=_REF)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _of_query(of)}
        for name, of in schema.get("properties", {}).items()
    ]


def _of_query(schema: dict[str, Any]) -> dict[str, Any]:
    """What is null in a model is left out of a query."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    found = {name: value for name, value in schema.items() if name not in ("anyOf", "default", "title")}
    if "default" in schema and schema["default"] is not None:
        found["default"] = schema["default"]
    if len(kinds) == 1:
        return {**found, **kinds[0]}
    return {**found, "anyOf": kinds} if kinds else found


def _headers(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": "^[ -~]+$"}
    return [
        {"name": name, "in": "header", "required": False, "description": _HEADERS[name], "schema": schema}
        for name in endpoint.headers
    ]


def _body(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": _ref(endpoint.body)}}
    if endpoint.takes_form:
        content[FORM] = _form(endpoint)
    return {"required": bool(endpoint.body.model_json_schema().get("required")), "content": content}


def _form(endpoint: Endpoint) -> dict[str, Any]:
    """The same fields as parts of a form; those that are no text as JSON, and files as they are."""
    schema = endpoint.body.model_json_schema(ref_template=_REF)
    fields = {name: _of_query(of) for name, of in schema["properties"].items() if name != "files"}
    fields["files"] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    encoding = {name: {"contentType": JSON} for name in sorted(endpoint.body.in_json - {"files"})}
    return {
        "schema": {"type": "object", "properties": fields, "required": schema.get("required", [])},
        **({"encoding": encoding} if encoding else {}),
    }


def _answer(given: type[BaseModel] | str | None) -> dict[str, Any]:
    match given:
        case None:
            return {"description": "It is done."}
        case str():
            return {"description": "The content.", "content": {given: {"schema": {"type": "string"}}}}
        case _:
            description = inspect.cleandoc(given.__doc__ or "").split("\n\n")[0].replace("\n", " ")
            return {"description": description, "content": {JSON: {"schema": _ref(given)}}}


def _schemas(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = {Problem: None}
    for endpoint in endpoints:
        models.update(dict.fromkeys(given for given in endpoint.answers.values() if isinstance(given, type)))
        # Of a query for what its parameters refer to.
        models.update({model: None for model in (endpoint.body, endpoint.query) if model is not Nothing})
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    found: dict[str, Any] = schemas["$defs"]
    queries = {endpoint.query.__name__ for endpoint in endpoints} - {endpoint.body.__name__ for endpoint in endpoints}
    return {name: schema for name, schema in sorted(found.items()) if name not in queries}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _version() -> str:
    try:
        return metadata.version("agentq-redis")
    except metadata.PackageNotFoundError:
        return "0"
