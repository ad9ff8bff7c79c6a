"""Whether a JSON Schema is of the strict kind that OpenAI can keep a model to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYWORDS = frozenset(
    {
        *("$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "format", "items", "title"),
        *("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "maxItems", "minItems"),
        *("pattern", "properties", "required", "type"),
    }
)
_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"})
_MAX_DEPTH = 10
_MAX_PROPERTIES = 5000


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether `schema` is in the subset: closed objects whose properties are all required, and known keywords only."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    definitions = schema.get("$defs", {})
    room = [_MAX_PROPERTIES]
    return all(_is_strict(each, definitions, _MAX_DEPTH, room) for each in (schema, *definitions.values()))


def _is_strict(schema: Any, definitions: Any, depth: int, room: list[int]) -> bool:
    if not isinstance(schema, dict) or depth < 0 or not schema.keys() <= _KEYWORDS:
        return False
    if "$ref" in schema:
        name = str(schema["$ref"])
        return len(schema) == 1 and (name == "#" or name.removeprefix("#/$defs/") in definitions)
    if "(?" in schema.get("pattern", "") or schema.get("format", "date") not in _FORMATS:
        return False
    below = [*schema.get("anyOf", ())]
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "object" in kinds:
        properties = schema.get("properties", {})
        room[0] -= len(properties)
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or {*schema.get("required", ())} != properties.keys() or room[0] < 0:
            return False
        below += properties.values()
    if "array" in kinds:
        below.append(schema.get("items"))
    if not kinds and not {"anyOf", "enum", "const"} & schema.keys():
        return False
    return all(_is_strict(each, definitions, depth - 1, room) for each in below)
