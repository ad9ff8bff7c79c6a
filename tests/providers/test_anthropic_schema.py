"""Schemas in the subset that Anthropic takes: it refuses one with a keyword that it does not enforce."""

from __future__ import annotations

from typing import Any

import pytest

from agentq.providers._anthropic_schema import closed

STRING = {"type": "string"}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


class TestSchemas:
    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (an_object(a=STRING), an_object(a=STRING) | {"additionalProperties": False}),
            (
                an_object(a={"type": "integer", "minimum": 1, "description": "How many."}),
                an_object(a={"type": "integer", "description": 'How many. {"minimum":1}'})
                | {"additionalProperties": False},
            ),
            ({"type": "string", "format": "uuid"}, {"type": "string", "format": "uuid"}),
            ({"type": "string", "format": "path"}, {"type": "string", "description": '{"format":"path"}'}),
            ({"type": "string", "default": "x", "enum": ["x"]}, {"type": "string", "enum": ["x"]}),
            ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
            (
                {"type": "array", "items": STRING, "minItems": 1, "maxItems": 3},
                {"type": "array", "items": STRING, "minItems": 1, "description": '{"maxItems":3}'},
            ),
            (
                {"$ref": "#/$defs/A", "$defs": {"A": an_object(b=STRING)}},
                {"$ref": "#/$defs/A", "$defs": {"A": an_object(b=STRING) | {"additionalProperties": False}}},
            ),
            (
                {"type": "object", "properties": {}, "additionalProperties": False},
                {"type": "object", "properties": {}, "additionalProperties": False},
            ),
        ],
    )
    def test_a_schema_in_the_subset(self, given: Any, sent: Any):
        assert closed(given) == sent

    @pytest.mark.parametrize(
        "given",
        [
            {"type": "object"},
            {"type": "object", "additionalProperties": STRING},
            an_object(a={}),
            an_object(a=True),
            an_object(a={"type": ["string", "null"]}),
            an_object(a={"$ref": "#/$defs/B"}),
            {"$ref": "#/$defs/A", "$defs": {"A": an_object(next={"$ref": "#/$defs/A"})}},
        ],
    )
    def test_what_has_no_form_is_left_to_whoever_checks_the_answer(self, given: Any):
        assert closed(given) is None
