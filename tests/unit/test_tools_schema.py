"""Tools that bring a JSON Schema: what is refused when they are made, and what is checked of a call."""

import json
import math
from typing import Any

import pytest

from agentq.errors import InvalidArguments, InvalidInput
from agentq.tools.context import ToolContext
from agentq.tools.function import Tool


def positional_only(a: int, /): ...
def takes_context(ctx: ToolContext, a: int): ...


OBJECT: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def takes_a(a: int) -> int:
    return a


GOOD: dict[str, Any] = {"name": "t", "description": "d", "parameters": OBJECT, "function": takes_a}


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"name": ""}, "name", "1 to 64 letters"),
        ({"name": "a b"}, "name", "'a b'"),
        ({"name": "a\n"}, "name", "1 to 64"),
        ({"name": "é"}, "name", "1 to 64"),
        ({"name": "a" * 65}, "name", "1 to 64"),
        ({"name": None}, "name", "1 to 64"),
        ({"description": None}, "description", "must be a string"),
        ({"parameters": None}, "parameters", "is a JSON Schema, not NoneType"),
        ({"parameters": {}}, "parameters", "must be an object schema"),
        ({"parameters": {"type": "array"}}, "parameters", "must be an object schema"),
        ({"parameters": {**OBJECT, "default": object()}}, "parameters", "cannot be stored as JSON"),
        ({"parameters": {"type": "object", "properties": []}}, "parameters", "maps names to JSON Schemas"),
        ({"parameters": {"type": "object", "properties": {"a": 1}}}, "parameters", "maps names to JSON Schemas"),
        ({"parameters": {**OBJECT, "required": "a"}}, "parameters", "required is a list of names"),
        ({"parameters": {"type": "object"}}, "parameters", "the function needs a, which parameters does not"),
        (
            {"parameters": {"type": "object", "properties": {"a": {}, "b": {}}}},
            "parameters",
            "describes b, which the function does not take",
        ),
        ({"function": None}, "function", "must be callable, not NoneType"),
        ({"function": positional_only}, "function", "by position only"),
        (
            {"function": takes_context, "parameters": {"type": "object", "properties": {"a": {}, "ctx": {}}}},
            "parameters",
            "describes ctx, which takes the ToolContext",
        ),
        ({"effect": "twice"}, "effect", '"none", "idempotent" or "once"'),
        ({"effect": ""}, "effect", '"none", "idempotent" or "once"'),
        ({"timeout": 0}, "timeout", "above 0"),
        ({"timeout": -1}, "timeout", "above 0"),
        ({"timeout": math.nan}, "timeout", "above 0"),
        ({"timeout": math.inf}, "timeout", "None for no limit"),
        ({"timeout": True}, "timeout", "above 0"),
        ({"timeout": "30"}, "timeout", "above 0"),
    ],
)
def test_bad_construction_names_the_field(changed: dict[str, Any], field: str, message: str):
    with pytest.raises(InvalidInput, match=message) as caught:
        Tool(**{**GOOD, **changed})
    assert caught.value.field == field


RAW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "items": {"type": "array", "items": {"type": "integer"}},
        "either": {"type": ["string", "null"]},
        "free": {},
        "yes": True,
        "odd": {"type": "file"},
    },
    "required": ["text"],
}


def take_any(**arguments: Any) -> dict[str, Any]:
    return arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"text": "a"}, None),
        ({"text": "a", "unknown": 1}, None),
        ({"text": "a", "items": ["not looked at"], "free": {}, "yes": 1, "odd": 1}, None),
        ({"text": "a", "count": 2.0, "ratio": 1, "flag": True, "either": None}, None),
        ({}, "text: Field required"),
        ({"text": 1}, "text: Input should be of type string"),
        ({"text": "a", "count": 1.5}, "count: Input should be of type integer"),
        ({"text": "a", "count": math.inf}, "count: Input should be of type integer"),
        ({"text": "a", "count": True}, "count: Input should be of type integer"),
        ({"text": "a", "ratio": False}, "ratio: Input should be of type number"),
        ({"text": "a", "flag": 1}, "flag: Input should be of type boolean"),
        ({"text": "a", "items": {}}, "items: Input should be of type array"),
        ({"text": "a", "either": 1}, "either: Input should be of type string or null"),
        ({"text": None, "count": "1"}, "text: Input should be of type string\ncount: Input should be of type integer"),
    ],
)
def test_a_given_schema_is_checked_at_its_top_level(arguments: dict[str, Any], problem: str | None):
    given = Tool("given", "", RAW, take_any)
    if problem is None:
        assert given(**given.bind(arguments)) == arguments
        return
    with pytest.raises(InvalidArguments) as caught:
        given.bind(arguments)
    assert str(caught.value) == problem


def test_unknown_names_are_refused_where_schema_or_function_are_closed():
    closed = Tool("closed", "", {**OBJECT, "additionalProperties": False}, take_any)
    patterned = Tool("p", "", {**OBJECT, "additionalProperties": False, "patternProperties": {"^x-": {}}}, take_any)
    narrow = Tool("narrow", "", OBJECT, takes_a)
    for each in (closed, narrow):
        with pytest.raises(InvalidArguments, match=r"^b: unknown argument; known are a$"):
            each.bind({"a": 1, "b": 2})
    assert patterned.bind({"a": 1, "x-b": 2}) == {"a": 1, "x-b": 2}


def test_what_the_function_needs_is_required_though_the_schema_forgot_it():
    forgot = Tool("forgot", "", {"type": "object", "properties": {"a": {}}}, takes_a)
    with pytest.raises(InvalidArguments, match=r"^a: Field required$"):
        forgot.bind({})


def test_a_tool_with_a_given_schema_may_take_the_context_and_any_callable():
    class Remote:
        async def __call__(self, ctx: ToolContext, **arguments: Any) -> None: ...

    remote = Tool("remote", "", OBJECT, Remote())
    assert (remote.context_parameter, remote.is_async) == ("ctx", True)
    with pytest.raises(InvalidArguments, match="ctx: unknown argument"):
        remote.bind({"a": 1, "ctx": 2})
    assert not Tool("largest", "", {"type": "object"}, max).is_async


def test_a_function_with_a_given_schema_may_have_any_other_annotation():
    def take(a: "Nowhere", *rest: int, **more: int) -> int:  # type: ignore[name-defined]  # noqa: F821
        return int(a)

    assert Tool("take", "", OBJECT, take).context_parameter is None


def test_a_given_schema_is_copied():
    given = json.loads(json.dumps(OBJECT))
    made = Tool("t", "", given, takes_a)
    given["properties"].clear()
    assert made.parameters == OBJECT
