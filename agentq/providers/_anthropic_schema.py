"""JSON Schemas in the subset that Anthropic takes for structured output and for strict tools. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq import _json

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT = frozenset({"type", "title", "description", "enum", "const", "required"})
_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
# These say nothing that the model has to follow.
_NOT_TOLD = frozenset({"default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment"})


class _NoForm(ValueError):
    """The subset cannot say it."""


def closed(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema as the server takes it, or None where it would refuse it: recursion, objects with any names.

    Every object is closed. What the server does not enforce, such as a minimum, stands in the description, for the
    model to read; whoever asked checks the answer.
    """
    try:
        definitions = {name: _closed(each) for name, each in (schema.get("$defs") or {}).items()}
        root = _closed({name: value for name, value in schema.items() if name != "$defs"})
        _check_references(root, definitions, ())
    except (_NoForm, RecursionError):
        return None
    return root | ({"$defs": definitions} if definitions else {})


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _NoForm
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    result: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _KEPT or (name == "format" and value in _FORMATS) or (name == "minItems" and value in (0, 1)):
            result[name] = value
        elif name in _LISTS:
            result[_LISTS[name]] = [_closed(each) for each in value]
        elif name == "items":
            result[name] = _closed(value)
        elif name == "properties":
            result[name] = {each: _closed(inner) for each, inner in value.items()}
        elif name != "additionalProperties" and name not in _NOT_TOLD:
            left[name] = value
    kind = schema.get("type", "")
    if kind == "object":
        result["additionalProperties"] = _no_others(schema)
    if not isinstance(kind, str) or not result.keys() & {"type", "enum", "const", "anyOf", "allOf"}:
        raise _NoForm  # several types in one word, or anything at all
    if left:
        told = _json.dumps(left).decode()
        result["description"] = f"{result['description']} {told}" if result.get("description") else told
    return result


def _no_others(schema: dict[str, Any]) -> bool:
    """False, as the server wants it. Raises `_NoForm` for an object that may have properties of any name."""
    if schema.get("additionalProperties", not schema.get("properties")):
        raise _NoForm
    return False


def _check_references(schema: Any, definitions: dict[str, Any], above: tuple[str, ...]) -> None:
    """Raise `_NoForm` where a definition holds itself, or is not there."""
    if isinstance(schema, list):
        for each in schema:
            _check_references(each, definitions, above)
    elif isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            name = reference.removeprefix("#/$defs/")
            if name in above or name not in definitions:
                raise _NoForm
            _check_references(definitions[name], definitions, (*above, name))
        else:
            for each in schema.values():
                _check_references(each, definitions, above)
