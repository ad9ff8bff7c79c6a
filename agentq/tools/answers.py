"""JSON Schemas of what is asked for, and values that are to fit them. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from agentq import _json
from agentq.errors import InvalidInput


def checked_schema(schema: Any, *, field: str) -> dict[str, Any]:
    """The schema as JSON gives it back. Raises `InvalidInput` for one that no value can be checked against."""
    if not isinstance(schema, Mapping):
        raise InvalidInput(f"{field} must be a JSON Schema, a dict, not {type(schema).__name__}", field=field)
    found: dict[str, Any] = _json.checked(dict(schema), field=field)
    library = _library()
    try:
        library.Draft202012Validator.check_schema(found)
    except library.SchemaError as error:
        raise InvalidInput(f"{field} is no JSON Schema: {error.message}", field=field) from error
    for reference in _references(found):
        if not reference.startswith("#"):
            raise InvalidInput(f"{field} refers to {reference!r:.100}; a schema holds all that it needs", field=field)
        misfit(None, {**found, "$ref": reference}, field=field)
    misfit(None, found, field=field)
    return found


def misfit(value: Any, schema: Mapping[str, Any], *, field: str) -> str | None:
    """What is wrong with a value, in words; None where it fits. Raises `InvalidInput` where the schema cannot tell."""
    try:
        problems = sorted(_validator(schema).iter_errors(value), key=lambda each: list(map(str, each.absolute_path)))
    except Exception as error:  # a schema may break the library that reads it in many ways
        raise InvalidInput(
            f"{field} cannot be checked, for the schema is broken: {type(error).__name__}: {error}", field=field
        ) from error
    if not problems:
        return None
    where = ".".join(map(str, problems[0].absolute_path))
    return f"{where}: {problems[0].message}" if where else str(problems[0].message)


def _references(schema: Any) -> Iterator[str]:
    """What is referred to, anywhere in it."""
    if isinstance(schema, dict):
        for name, each in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(each, str):
                yield each
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _validator(schema: Mapping[str, Any]) -> Any:
    import referencing

    # Without a registry of ours the library would fetch what a schema refers to.
    return _library().Draft202012Validator(dict(schema), registry=referencing.Registry())


@cache
def _library() -> Any:
    # Here, because it takes a tenth of a second and few need it.
    import jsonschema  # type: ignore[import-untyped]

    return jsonschema
