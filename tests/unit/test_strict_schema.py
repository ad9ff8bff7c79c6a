"""Which schemas are of the strict kind; what is not known to be is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from agentq.providers._strict_schema import is_strict


def of(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nested(depth: int) -> dict[str, Any]:
    schema = of(x={"type": "string"})
    for _ in range(depth - 2):
        schema = of(x=schema)
    return schema


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: float = Field(ge=0, description="to the right")
    name: str | None
    kind: str = Field(pattern="^[a-z]+$")
    more: list[int]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")
    points: list[Point]


STRING = {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        of(),
        of(a=STRING, b={"type": ["integer", "null"]}, c={"enum": ["x", 1]}, d={"const": 1}),
        of(a={"anyOf": [of(b=STRING), {"type": "null"}]}),
        of(a={"type": "array", "items": of(b=STRING), "minItems": 1, "maxItems": 3}),
        of(a={"type": "string", "format": "date-time"}, b={"type": "number", "multipleOf": 2}),
        of(a={"$ref": "#"}) | {"title": "Tree"},
        of(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": of(c={"$ref": "#/$defs/B"})}},
        nested(10),
        Point.model_json_schema(),
        Shape.model_json_schema(),
    ],
)
def test_these_are(schema: dict[str, Any]):
    assert is_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        STRING,
        {"type": "object"},
        {"type": ["object", "null"], **{k: v for k, v in of().items() if k != "type"}},
        of() | {"anyOf": [of()]},
        of(a=STRING) | {"required": []},
        of(a=STRING) | {"required": ["a", "b"]},
        of(a=STRING) | {"additionalProperties": True},
        of(a=STRING) | {"additionalProperties": STRING},
        of(a={}),
        of(a=True),
        of(a={"description": "anything"}),
        of(a={"type": "object", "properties": {}}),
        of(a={"type": "object", "additionalProperties": {"type": "integer"}}),
        of(a={"type": "array"}),
        of(a={"type": "array", "items": {}}),
        of(a={"type": "array", "items": STRING, "uniqueItems": True}),
        of(a={"type": "array", "prefixItems": [STRING]}),
        of(a={"oneOf": [STRING]}),
        of(a={"allOf": [STRING]}),
        of(a={"anyOf": []}),
        of(a={"anyOf": [{"type": "array"}]}),
        of(a=STRING | {"default": "x"}),
        of(a=STRING | {"minLength": 1}),
        of(a=STRING | {"format": "uri"}),
        of(a=STRING | {"pattern": "^(?!x)"}),
        of(a={"$ref": "#/$defs/B"}),
        of(a={"$ref": "#/$defs/B", "description": "beside it"}) | {"$defs": {"B": of()}},
        of(a={"$ref": "https://example.org"}),
        of(a=of() | {"$defs": {}}),
        of(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": {}}},
        of() | {"$defs": []},
        of() | {"patternProperties": {}},
        nested(11),
        of(a={"enum": list(range(1_001))}),
        of(**{f"p{n}": STRING for n in range(5_001)}),
    ],
)
def test_these_are_not(schema: dict[str, Any]):
    assert not is_strict(schema)
