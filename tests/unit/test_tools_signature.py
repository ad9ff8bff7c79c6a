"""Typed functions as tools: what their signatures and docstrings become, and what their arguments turn into."""

import dataclasses
import datetime
import enum
import functools
import importlib.util
import inspect
import json
import math
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from agentq.errors import InvalidArguments, InvalidInput
from agentq.tools.context import ToolContext
from agentq.tools.function import Tool, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    title: str
    size: NotRequired[int]


class Node(BaseModel):
    """A node of a tree."""

    title: str
    children: list["Node"] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    day: datetime.date


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def _is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("number is odd")
        return number


def taking(annotation: Any, default: Any = inspect.Parameter.empty) -> Tool:
    """A tool with one parameter, `it`."""

    def look(it): ...

    look.__annotations__ = {"it": annotation}
    if default is not inspect.Parameter.empty:
        look.__defaults__ = (default,)
    return tool(look)


@pytest.mark.parametrize(
    ("annotation", "given", "bound"),
    [
        (Optional[int], 3, 3),  # noqa: UP045
        (int | None, None, None),
        (int | str, "3", "3"),
        (Literal["a", "b"], "b", "b"),
        (Colour, "blue", Colour.BLUE),
        (Point, {"x": "1"}, Point(1, 0)),
        (list[Point], [{"x": 1, "y": 2}], [Point(1, 2)]),
        (Options, {"title": "t"}, {"title": "t"}),
        (Node, {"title": "a", "children": [{"title": "b"}]}, Node(title="a", children=[Node(title="b")])),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (Strict, {"day": "2024-02-29"}, Strict(day=datetime.date(2024, 2, 29))),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1, 2], {1, 2}),
        (Annotated[int, Field(ge=0, le=9)], 9, 9),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 0.1, Decimal("0.1")),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (Any, {"a": [None]}, {"a": [None]}),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (int, "7", 7),
        (int, 7.0, 7),
        (int, 10**30, 10**30),
        (float, math.inf, math.inf),
        (bool, "true", True),
        (bytes, "abc", b"abc"),
    ],
)
def test_json_becomes_the_annotated_type(annotation: Any, given: Any, bound: Any):
    value = taking(annotation).bind({"it": given})["it"]
    assert value == bound
    assert type(value) is type(bound)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (Colour, {"$ref": "#/$defs/Colour"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (Annotated[int, Field(ge=0, le=9)], {"type": "integer", "minimum": 0, "maximum": 9}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Any, {}),
    ],
)
def test_types_become_json_schema(annotation: Any, schema: dict[str, Any]):
    assert taking(annotation).parameters["properties"]["it"] == schema


def test_the_schema_is_exactly_what_a_model_needs():
    @tool
    def add_numbers(a: float, b: float = 1.0, *, _round: bool): ...

    assert add_numbers.parameters == {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 1.0}, "_round": {"type": "boolean"}},
        "required": ["a", "_round"],
        "additionalProperties": False,
    }
    assert add_numbers.bind({"a": 1, "_round": True}) == {"a": 1.0, "b": 1.0, "_round": True}


def test_named_types_stay_definitions_and_a_field_named_title_is_kept():
    assert taking(Node).parameters["$defs"] == {
        "Node": {
            "description": "A node of a tree.",
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "default": []},
            },
            "required": ["title"],
        }
    }
    assert list(taking(Options).parameters["$defs"]["Options"]["properties"]) == ["title", "size"]


@pytest.mark.parametrize(
    ("annotation", "default", "schema", "bound"),
    [
        (int | None, None, None, None),
        (Colour, Colour.RED, "red", Colour.RED),
        (Point, Point(1), {"x": 1, "y": 0}, Point(1)),
        (int, Field(3, ge=0), 3, 3),
    ],
)
def test_a_default_stands_in_the_schema_and_is_bound(annotation: Any, default: Any, schema: Any, bound: Any):
    made = taking(annotation, default)
    assert made.parameters["properties"]["it"]["default"] == schema
    assert "required" not in made.parameters
    assert made.bind({}) == {"it": bound}


def test_a_default_without_a_json_form_is_left_out_of_the_schema():
    marker = object()
    made = taking(Any, marker)
    assert made.parameters["properties"]["it"] == {}
    assert made.bind({})["it"] is marker
    assert taking(list[int], Field(default_factory=lambda: [1])).bind({}) == {"it": [1]}


def test_a_default_is_not_shared_between_calls():
    made = taking(list[int], [])
    made.bind({})["it"].append(1)
    assert made.bind({}) == {"it": []}


def test_an_alias_is_the_name_that_the_model_uses():
    made = taking(Annotated[int, Field(alias="from")])
    assert list(made.parameters["properties"]) == ["from"]
    assert made.bind({"from": 1}) == {"it": 1}
    with pytest.raises(InvalidArguments, match="from: Field required\nit: unknown argument; known are from"):
        made.bind({"it": 1})


def test_every_schema_is_json():
    for annotation in (Colour, Point, Options, Node, Strict, list[Even]):
        schema = taking(annotation).parameters
        assert json.loads(json.dumps(schema)) == schema


def google(city: str, days: int = 1):
    """Forecast the weather.

    Knows all of Europe.

    Args:
        city: The city,
            in English.
        days: How many days.

    Returns:
        A text.
    """


def numpy(city: str, days: int = 1):
    """Forecast the weather.

    Knows all of Europe.

    Parameters
    ----------
    city : str
        The city,
        in English.
    days : int
        How many days.
    """


def sphinx(city: str, days: int = 1):
    """Forecast the weather.

    Knows all of Europe.

    :param city: The city,
        in English.
    :param days: How many days.
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_docstrings_of_three_styles_describe_tool_and_arguments(function: Any):
    forecast = tool(function)
    assert forecast.description == "Forecast the weather.\n\nKnows all of Europe."
    assert forecast.parameters["properties"]["city"] == {"type": "string", "description": "The city,\nin English."}
    assert forecast.parameters["properties"]["days"]["description"] == "How many days."


def test_an_annotation_describes_before_the_docstring_and_a_field_before_both():
    @tool
    def look(
        a: Annotated[int, "from the annotation"],
        b: Annotated[int, "from the annotation", Field(description="from the field", ge=0)],
        c: Annotated[Colour, Field(gt=0)] | None = None,
        d: int = Field(3, description="from the default"),
        e: Annotated[list[int], Field(max_length=2)] = [],  # noqa: B006
    ):
        """Look.

        Args:
            a: doc a
            b: doc b
            c: doc c
            d: doc d
            e: doc e
        """

    described = {name: schema.get("description") for name, schema in look.parameters["properties"].items()}
    assert described == {
        "a": "from the annotation",
        "b": "from the field",
        "c": "doc c",
        "d": "from the default",
        "e": "doc e",
    }
    assert look.parameters["properties"]["b"]["minimum"] == 0
    assert look.parameters["properties"]["e"]["maxItems"] == 2


@pytest.mark.parametrize("doc", [None, "", "   \n "])
def test_a_function_without_a_docstring_has_an_empty_description(doc: str | None):
    def look(): ...

    look.__doc__ = doc
    assert tool(look).description == ""


def test_string_annotations_may_name_local_types():
    class City(BaseModel):
        name: str

    @tool
    def bare(city: "City", others: "list[City]", nested: list["City"]): ...

    @tool(effect="none")
    def with_arguments(city: "City"): ...

    assert bare.bind({"city": {"name": "Oslo"}, "others": [], "nested": [{"name": "Rome"}]}) == {
        "city": City(name="Oslo"),
        "others": [],
        "nested": [City(name="Rome")],
    }
    assert with_arguments.bind({"city": {"name": "Oslo"}}) == {"city": City(name="Oslo")}
    assert tool(with_arguments.function, name="again").bind({"city": {"name": "Oslo"}}) == {"city": City(name="Oslo")}


FUTURE_MODULE = """
from __future__ import annotations
from typing import TYPE_CHECKING
from pydantic import BaseModel
from agentq.tools.function import tool
if TYPE_CHECKING:
    from agentq.tools.context import ToolContext
    from nowhere import Thing

class City(BaseModel):
    name: str

@tool
async def forecast(city: City, ctx: ToolContext, days: int = 1) -> Thing:
    ...
"""


def test_a_module_with_postponed_annotations_works(tmp_path: Path):
    """Not even imports for type checkers only are in the way, where they concern the context or the result."""
    path = tmp_path / "postponed.py"
    path.write_text(FUTURE_MODULE)
    spec = importlib.util.spec_from_file_location("postponed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["postponed"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["postponed"]
    assert list(module.forecast.parameters["properties"]) == ["city", "days"]
    assert module.forecast.context_parameter == "ctx"
    assert module.forecast.bind({"city": {"name": "Oslo"}}) == {"city": module.City(name="Oslo"), "days": 1}


def plain_context(ctx: ToolContext, a: int): ...
def named_otherwise(a: int, call: ToolContext): ...
def optional_context(a: int, ctx: ToolContext | None = None): ...
def annotated_context(a: int, ctx: Annotated[ToolContext, "mine"]): ...
def quoted_context(a: int, *, ctx: "ToolContext"): ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (plain_context, "ctx"),
        (named_otherwise, "call"),
        (optional_context, "ctx"),
        (annotated_context, "ctx"),
        (quoted_context, "ctx"),
    ],
)
def test_the_context_is_not_the_models_business(function: Any, name: str):
    made = tool(function)
    assert made.context_parameter == name
    assert list(made.parameters["properties"]) == ["a"]
    assert made.bind({"a": 1}) == {"a": 1}
    with pytest.raises(InvalidArguments, match=f"{name}: unknown argument; known are a"):
        made.bind({"a": 1, name: {}})


class Unknown: ...


def takes_args(*args: int): ...
def takes_kwargs(**extra: int): ...
def positional_only(a: int, /, b: int): ...
def unannotated(a: int, b): ...
def bare_context(ctx): ...
def generates(a: int):
    yield a


async def generates_async(a: int):
    yield a


def unresolved(a: "Nowhere"): ...  # type: ignore[name-defined]  # noqa: F821
def opaque(fine: int, bad: Unknown): ...
def impossible(bad: Annotated[str, Field(ge=object())]): ...
def two_contexts(one: ToolContext, two: ToolContext): ...


class Method:
    def look(self, a: int): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (takes_args, r"takes_args takes \*args, which has no schema; name each"),
        (takes_kwargs, r"takes_kwargs takes \*\*extra, which has no schema; name each"),
        (positional_only, "positional_only takes a by position only; remove the /"),
        (unannotated, "unannotated has no annotation for parameter b; write b: str"),
        (bare_context, "bare_context has no annotation for parameter ctx; write ctx: ToolContext"),
        (generates, "generates is a generator; return a list"),
        (generates_async, "generates_async is a generator; return a list"),
        (lambda: 1, "a lambda has no annotations; write a function with def"),
        (
            unresolved,
            "unresolved has an annotation for parameter a, 'Nowhere', .* name 'Nowhere' is not defined; define",
        ),
        (opaque, "bad of opaque has no JSON Schema: "),
        (impossible, "bad of impossible has no JSON Schema: "),
        (two_contexts, "one and two of two_contexts both take the ToolContext"),
        (Method.look, r"look is a method; make a tool of the bound one: tool\(thing.method\)"),
        (Method, "is not a function; wrap it in one"),
        (functools.partial(takes_args), "is not a function; wrap it in one"),
        (tool(google), "google is a tool already"),
        ("plus", r'@tool takes its name by keyword: @tool\(name="plus"\)'),
    ],
)
def test_what_has_no_schema_is_refused_with_the_fix(function: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        tool(function)


def test_a_refusal_names_the_parameter_as_its_field():
    with pytest.raises(InvalidInput) as caught:
        tool(unannotated)
    assert caught.value.field == "b"


def book(city: str, nights: Annotated[int, Field(ge=1)], rooms: list[Point], even: Even | None = None): ...


GOOD_BOOKING: dict[str, Any] = {"city": "Oslo", "nights": 1, "rooms": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"city": "Oslo", "nights": 2}, "rooms: Field required"),
        ({**GOOD_BOOKING, "nights": 0}, "nights: Input should be greater than or equal to 1"),
        (
            {**GOOD_BOOKING, "nights": "two"},
            "nights: Input should be a valid integer, unable to parse string as an int",
        ),
        ({**GOOD_BOOKING, "rooms": [{"x": 1}, {}]}, "rooms.1.x: Field required"),
        ({**GOOD_BOOKING, "stars": 3}, "stars: unknown argument; known are city, nights, rooms, even"),
        ({**GOOD_BOOKING, "even": {"number": 3}}, "even.number: Value error, number is odd"),
        ({"nights": 1, "rooms": [], "town": "Oslo"}, "city: Field required\ntown: unknown argument; known are city"),
    ],
)
def test_unfit_arguments_are_explained_line_by_line(arguments: dict[str, Any], message: str):
    with pytest.raises(InvalidArguments) as caught:
        tool(book).bind(arguments)
    assert str(caught.value).startswith(message)


def test_a_tool_without_parameters_says_so():
    def get_time(): ...

    with pytest.raises(InvalidArguments, match=r"^zone: unknown argument; the tool takes none$"):
        tool(get_time).bind({"zone": "UTC"})


def test_a_long_list_of_problems_is_cut():
    with pytest.raises(InvalidArguments) as caught:
        tool(book).bind({**GOOD_BOOKING, "rooms": [{}] * 1000})
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 980 more"


def test_arguments_that_are_not_json_are_refused():
    with pytest.raises(InvalidArguments, match="the arguments are not JSON"):
        taking(Any).bind({"it": object()})
