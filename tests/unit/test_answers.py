"""What tools may ask for, as JSON Schemas, and answers that are to fit them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from agentq import ToolContext, tool
from agentq.errors import InvalidInput
from agentq.runs import Status
from agentq.testing import call
from agentq.tools.answers import checked_schema, misfit
from tests.unit._resting import House, a_house

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["a_house"]

SIZE = {"$defs": {"size": {"enum": ["S", "M"]}}, "properties": {"size": {"$ref": "#/$defs/size"}}, "required": ["size"]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("string", "must be a JSON Schema, a dict, not str"),
        ({"type": "nope"}, "is no JSON Schema"),
        ({"type": 5}, "is no JSON Schema"),
        ({"enum": 5}, "is no JSON Schema"),
        ({"properties": 5}, "is no JSON Schema"),
        ({"pattern": "("}, "is no JSON Schema"),
        ({"const": object()}, "cannot be stored as JSON"),
        ({"$ref": "#/nowhere"}, "PointerToNowhere"),
        ({"properties": {"a": {"items": {"$ref": "#/nowhere"}}}}, "PointerToNowhere"),
        ({"$ref": "#"}, "RecursionError"),
        ({"$ref": "https://example.com/x"}, "refers to 'https://example.com/x'; a schema holds all"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "refers to 'file:///etc/passwd'"),
    ],
)
def test_what_no_answer_could_fit_is_refused(schema: Any, words: str):
    with pytest.raises(InvalidInput) as refused:
        checked_schema(schema, field="schema")
    assert refused.value.field == "schema"
    assert words in str(refused.value)


def test_a_schema_may_refer_to_its_own_parts():
    schema = checked_schema(SIZE, field="schema")
    assert misfit({"size": "M"}, schema, field="answer") is None
    assert misfit({"size": "XL"}, schema, field="answer") == "size: 'XL' is not one of ['S', 'M']"
    assert misfit({}, schema, field="answer") == "'size' is a required property"


@pytest.fixture
def visits() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it was asked for."""
    seen: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/inside", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_fetched(visits: tuple[str, list[str]]):
    """A schema may come from a model, or from a server, and would send whoever answers where they want."""
    address, seen = visits
    with pytest.raises(InvalidInput, match="answer cannot be checked, for the schema is broken"):
        misfit("x", {"$ref": address}, field="answer")
    assert seen == []


async def test_a_tool_that_asks_for_what_cannot_be_is_told_so(house: House):
    async def order(ctx: ToolContext) -> str:
        """Order a shirt."""
        return str(await ctx.ask("Which size?", schema={"type": "size"}))

    await house.start(call("order"), tools=[tool(order, effect="once")])
    assert await house.advance() is Status.QUEUED
    ((outcome, content),) = await house.results()
    assert outcome == "error"
    assert "schema is no JSON Schema: 'size' is not valid" in content
