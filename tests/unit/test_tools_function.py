"""`Tool`, the `@tool` decorator, and the text of results."""

import dataclasses
import datetime
import enum
import functools
import math
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from agentq.errors import ToolError
from agentq.tools.function import dump_result, tool
from agentq.tools.spec import ToolSpec


class Colour(enum.Enum):
    RED = "red"


class Suit(enum.StrEnum):
    HEARTS = "hearts"


class Letter(str, enum.Enum):  # noqa: UP042 - the old kind, whose str() is not its value
    A = "a"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class City(BaseModel):
    name: str


async def test_a_bare_decorator_reads_everything_from_the_function():
    @tool
    async def add_numbers(a: float, b: float) -> float:
        """Add two numbers."""
        return a + b

    assert (add_numbers.name, add_numbers.description) == ("add_numbers", "Add two numbers.")
    assert (add_numbers.effect, add_numbers.declared_effect) == ("once", False)
    assert add_numbers.timeout_s is None
    assert add_numbers.is_async
    assert add_numbers.spec == ToolSpec("add_numbers", "Add two numbers.", add_numbers.parameters)
    assert await add_numbers(1, 2) == 3


def test_a_decorator_with_arguments_overrides_what_the_function_says():
    @tool(name="plus", description="Sum.", effect="idempotent", timeout=30)
    def add_numbers(a: int) -> int:
        """Add."""
        return a

    assert (add_numbers.name, add_numbers.description, add_numbers.effect) == ("plus", "Sum.", "idempotent")
    assert add_numbers.declared_effect
    assert add_numbers.timeout_s == 30.0
    assert not add_numbers.is_async
    assert add_numbers(2) == 2


def test_empty_parentheses_and_a_plain_call_make_tools_too():
    def get_time() -> str:
        return "now"

    assert tool()(get_time).name == "get_time"
    assert tool(get_time, effect="none").effect == "none"
    assert tool(get_time).parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_tool_looks_like_its_function():
    @tool
    def look(a: int) -> int:
        """Look."""
        return a

    assert look.__doc__ == "Look."
    assert vars(look)["__name__"] == "look"
    assert vars(look)["__wrapped__"] is look.function
    assert repr(look) == "<Tool look effect=once>"


def test_a_bound_method_is_a_tool():
    class Shop:
        stock = 3

        def take(self, count: int) -> int:
            """Take some."""
            return self.stock - count

    take = tool(Shop().take)
    assert list(take.parameters["properties"]) == ["count"]
    assert take(**take.bind({"count": 1})) == 2


def test_a_static_method_is_a_tool():
    class Shop:
        @staticmethod
        @tool
        def price(item: str) -> int:
            return len(item)

    assert Shop.price("pear") == 4


def test_a_decorated_function_keeps_its_signature():
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @tool
    @logged
    def double(it: int) -> int:
        return it * 2

    assert double(**double.bind({"it": "4"})) == 8


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (16.0, "16"),
        (-0.0, "0"),
        (13.856406460551018, "13.856406460551018"),
        (1e15, "1000000000000000"),
        (2.0**53, "9007199254740992.0"),
        (1e300, "1e+300"),
        (math.inf, "Infinity"),
        (math.nan, "NaN"),
        ([1, 2.0, "a"], '[1,2.0,"a"]'),
        ((1,), "[1]"),
        ({"a": None}, '{"a":null}'),
        ({"a": [math.inf]}, '{"a":[Infinity]}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        (City(name="Zürich"), '{"name":"Zürich"}'),
        ([Colour.RED], '["red"]'),
        (Colour.RED, "red"),
        (Suit.HEARTS, "hearts"),
        (Letter.A, "a"),
        (datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC), '"2024-02-29T12:00:00Z"'),
        (Decimal("1.10"), '"1.10"'),
        (b"abc", '"abc"'),
        ({1}, "[1]"),
    ],
)
def test_results_read_well(value: Any, text: str):
    assert dump_result(value) == text


def loop_of_lists() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "the tool returned object that cannot be serialised"),
        ([object()], "the tool returned list that cannot be serialised"),
        (b"\xff", "the tool returned bytes that cannot be serialised"),
        (["\ud800"], "the tool returned list that cannot be serialised"),
        (loop_of_lists(), "the tool returned list that cannot be serialised"),
        (len, "the tool returned builtin_function_or_method that cannot be serialised"),
    ],
)
def test_a_result_without_a_json_form_is_a_tool_error(value: Any, message: str):
    with pytest.raises(ToolError, match=message):
        dump_result(value)
