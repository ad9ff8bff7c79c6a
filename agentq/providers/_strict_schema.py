"""Whether a JSON Schema is of the strict kind, which models can be held to while they write. Pure.

The subset is that of OpenAI's structured outputs; the strict tools of other vendors take nearly the same. A keyword
that is not known to be in it counts as outside: an answer that is not held to its schema is still checked afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYWORDS = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"})
# One of these says what a value may be; a schema without any takes everything.
_SAYS_WHAT = ("type", "anyOf", "enum", "const", "$ref")
_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")
_MAX_DEPTH = 10
_MAX_PROPERTIES = 5_000
_MAX_ENUM_VALUES = 1_000


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether every part of `schema` is within the subset."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, dict):
        return False
    check = _Check(frozenset(definitions))
    return check.is_ok(schema, 1, is_root=True) and all(check.is_ok(each, 1) for each in definitions.values())


class _Check:
    """One walk through a schema, and what it has counted."""

    def __init__(self, definitions: frozenset[str]) -> None:
        self._definitions = definitions
        self._properties = 0
        self._enum_values = 0

    def is_ok(self, schema: Any, depth: int, *, is_root: bool = False) -> bool:
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or not schema.keys() <= _KEYWORDS:
            return False
        if ("$defs" in schema and not is_root) or not any(name in schema for name in _SAYS_WHAT):
            return False
        if "$ref" in schema:
            return len(schema) == 1 and self._is_reference(schema["$ref"])
        return (
            self._is_plain(schema)
            and self._is_object_ok(schema, depth)
            and self._is_array_ok(schema, depth)
            and self._are_ok(schema.get("anyOf"), depth)
        )

    def _is_reference(self, target: Any) -> bool:
        if not isinstance(target, str):
            return False
        return target == "#" or (target.startswith("#/$defs/") and target[8:] in self._definitions)

    def _is_plain(self, schema: dict[str, Any]) -> bool:
        """What stands beside the parts of a schema."""
        values = schema.get("enum", ())
        self._enum_values += len(values) if isinstance(values, list | tuple) else _MAX_ENUM_VALUES + 1
        pattern = schema.get("pattern", "")
        return (
            self._enum_values <= _MAX_ENUM_VALUES
            and schema.get("format", "date") in _FORMATS
            and isinstance(pattern, str)
            and not any(look in pattern for look in _LOOK_AROUND)
        )

    def _is_object_ok(self, schema: dict[str, Any], depth: int) -> bool:
        if not _is_of(schema, "object"):
            return "properties" not in schema and "additionalProperties" not in schema
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or not isinstance(properties, dict):
            return False
        self._properties += len(properties)
        return (
            self._properties <= _MAX_PROPERTIES
            and set(schema.get("required", ())) == properties.keys()
            and all(self.is_ok(each, depth + 1) for each in properties.values())
        )

    def _is_array_ok(self, schema: dict[str, Any], depth: int) -> bool:
        if not _is_of(schema, "array"):
            return "items" not in schema
        return self.is_ok(schema.get("items"), depth + 1)

    def _are_ok(self, schemas: Any, depth: int) -> bool:
        if schemas is None:
            return True
        return isinstance(schemas, list) and bool(schemas) and all(self.is_ok(each, depth) for each in schemas)


def _is_of(schema: dict[str, Any], kind: str) -> bool:
    given = schema.get("type")
    return given == kind or (isinstance(given, list) and kind in given)
