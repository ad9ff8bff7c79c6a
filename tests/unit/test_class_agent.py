"""Agents written as classes: the same as `Agent(...)`, with methods as tools and one instance a process."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from agentq import Agent, AgentQ, InvalidInput, Section, Settings, Tool, ToolContext, agent, tool
from agentq.loop.class_agent import AgentOptions
from agentq.messages import NoteKind
from agentq.testing import ScriptedModel, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.runs import RunState


@tool(effect="none")
async def weather(city: str) -> str:
    """The weather now."""
    return f"rain in {city}"


@agent(model="scripted:x", max_iterations=7)
class OrderDesk:
    """You work at the order desk."""

    retry_backoff_s = 0
    tools = (weather,)

    def __init__(self, stock: int = 3) -> None:
        self.stock = stock
        self.took: list[str] = []

    @tool(effect="idempotent", timeout=5)
    async def take(self, item: Annotated[str, "what to take"], ctx: ToolContext, count: int = 1) -> str:
        """Take something out of the stock."""
        self.stock -= count
        self.took.append(item)
        return f"{item} for {ctx.user_id}: {self.left()} left"

    @tool(effect="none")
    def left(self) -> int:
        """How much is left."""
        return self.stock


async def take(item: Annotated[str, "what to take"], ctx: ToolContext, count: int = 1) -> str:
    """Take something out of the stock."""
    return f"{item} for {ctx.user_id}: {3 - count} left"


def left() -> int:
    """How much is left."""
    return 2


PLAIN = Agent(
    "order_desk",
    "You work at the order desk.",
    "scripted:x",
    [tool(effect="idempotent", timeout=5)(take), tool(effect="none")(left), weather],
    max_iterations=7,
    retry_backoff_s=0,
)


def fresh() -> type[Any]:
    """A class of one's own for each test: its instance lives as long as the process."""

    @agent(model="scripted:x", retry_backoff_s=0)
    class Desk(OrderDesk): ...

    return Desk


class TestTheSame:
    def test_the_manifest_is_that_of_the_agent_that_one_would_write(self):
        assert Agent.of(OrderDesk).manifest() == PLAIN.manifest()

    def test_so_are_all_its_fields_but_the_tools_themselves(self):
        made = Agent.of(OrderDesk)
        for field in fields(Agent):
            if field.name != "tools":
                assert getattr(made, field.name) == getattr(PLAIN, field.name), field.name

    def test_so_are_its_tools(self):
        mine, theirs = (list(each.known_tools.offered) for each in (Agent.of(OrderDesk), PLAIN))
        for one, other in zip(mine, theirs, strict=True):
            for name in ("spec", "effect", "timeout_s", "is_async", "is_method", "behaviour", "context_parameter"):
                assert getattr(one.tool, name) == getattr(other.tool, name), name

    @pytest.mark.parametrize("given", [OrderDesk, PLAIN], ids=["class", "agent"])
    async def test_so_is_a_run(self, given: Any):
        both = [call("take", item="pear"), call("left")]
        model = ScriptedModel([both, call("take", item=7), call("weather", city="Oslo"), "Ok."])
        app = AgentQ([given], settings=Settings(), models={"scripted": model})
        result = await app.run("order_desk", "A pear", user_id="ann")
        assert [part.content for message in result.messages for part in message.tool_results] == [
            "pear for ann: 2 left",
            "2",
            "The arguments do not fit take:\nitem: Input should be a valid string",
            "rain in Oslo",
        ]
        assert {asked.instructions for asked in model.requests} == {"You work at the order desk."}

    def test_the_keywords_are_the_fields_of_an_agent(self):
        assert set(AgentOptions.__annotations__) == {field.name for field in fields(Agent)}

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [("Support", "support"), ("OrderDesk", "order_desk"), ("HTTPDesk", "http_desk"), ("Desk24h", "desk24h")],
    )
    def test_the_name_is_that_of_the_class(self, name: str, wanted: str):
        assert Agent.of(agent(type(name, (), {}))).name == wanted

    def test_keywords_go_before_attributes(self):
        @agent(name="other", max_iterations=2, tools=[])
        class Desk(OrderDesk):
            name = "desk"
            max_iterations = 3

        made = Agent.of(Desk)
        assert (made.name, made.max_iterations, made.retry_backoff_s) == ("other", 2, 0)
        assert made.known_tools.names == ("take", "left")


class TestInstances:
    async def test_there_is_one_and_it_is_made_when_it_is_needed(self):
        made: list[int] = []

        @agent(model="scripted:x")
        class Desk:
            def __init__(self) -> None:
                made.append(os.getpid())

            @tool(effect="none")
            async def one(self) -> int:
                return id(self)

            @tool(effect="none")
            def two(self) -> int:
                return id(self)

        one, two = (Agent.of(Desk).known_tools.named(name) for name in ("one", "two"))
        assert one is not None
        assert two is not None
        assert made == []
        assert await one() == two() == await one()
        assert made == [os.getpid()]

    async def test_a_forked_process_makes_its_own(self, monkeypatch: pytest.MonkeyPatch):
        take = Agent.of(fresh()).known_tools.named("left")
        assert take is not None
        first = take.function
        assert first() == 3
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert first() == 3

    async def test_one_that_cannot_be_made_fails_the_call_and_is_tried_again(self):
        troubles: list[Exception] = [ConnectionError("away")]

        @agent(model="scripted:x", retry_backoff_s=0)
        class Desk:
            def __init__(self) -> None:
                if troubles:
                    raise troubles.pop()

            @tool(effect="none")
            def look(self) -> str:
                return "seen"

        model = ScriptedModel([call("look"), call("look"), "Ok."])
        result = await AgentQ([Desk], settings=Settings(), models={"scripted": model}).run("desk", "Look")
        contents = [part.content for message in result.messages for part in message.tool_results]
        assert "ConnectionError: away" in contents[0]
        assert contents[1] == "seen"
        assert [message.note for message in result.messages if message.note] == [NoteKind.TOOL_ERROR]

    async def test_methods_are_called_as_written_on_an_instance_of_ones_own(self):
        desk = OrderDesk(stock=9)
        ctx = ToolContext(run_id="R", call_id="R.1.0", user_id="bob")
        assert await desk.take("pear", ctx, count=2) == "pear for bob: 7 left"
        assert desk.left() == 7
        assert isinstance(desk.left, Tool)

    async def test_the_tool_of_an_instance_belongs_to_an_agent_like_any_other(self):
        desk = OrderDesk(stock=5)
        model = ScriptedModel([call("left"), "Ok."])
        app = AgentQ(
            [Agent("a", model="scripted:x", tools=[desk.left])], settings=Settings(), models={"scripted": model}
        )
        result = await app.run("a", "Look")
        assert [part.content for message in result.messages for part in message.tool_results] == ["5"]

    def test_that_of_no_instance_is_refused(self):
        with pytest.raises(InvalidInput, match=r"left is a method; give the one of an instance, tools=\[thing.left\]"):
            Agent("a", tools=[OrderDesk.left])

    async def test_hooks_may_be_methods(self):
        @agent(model="scripted:x", retry_backoff_s=0)
        class Bank:
            def __init__(self) -> None:
                self.limit = 10

            async def _may_pay(self, ctx: ToolContext, arguments: dict[str, Any]) -> bool | str:
                return arguments["amount"] <= self.limit or f"more than {self.limit}"

            @tool(effect="none", permission=_may_pay, concurrency_safe=lambda arguments: False)
            def pay(self, amount: int) -> str:
                return f"paid {amount}"

        model = ScriptedModel([call("pay", amount=11), call("pay", amount=9), "Ok."])
        result = await AgentQ([Bank], settings=Settings(), models={"scripted": model}).run("bank", "Pay")
        refused, paid = [part.content for message in result.messages for part in message.tool_results]
        assert "more than 10" in refused
        assert paid == "paid 9"


class TestInstructions:
    async def told(self, cls: type[Any]) -> str:
        model = ScriptedModel(["Ok."])
        made = Agent.of(cls)
        await AgentQ([cls], settings=Settings(), models={"scripted": model}).run(made.name, "Hello", user_id="ann")
        return model.requests[0].instructions

    async def test_a_method_is_asked_in_each_iteration(self):
        @agent(model="scripted:x")
        class Desk:
            """For readers of the code."""

            greeting = "You talk to"

            async def instructions(self, run: RunState) -> str:
                return f"{self.greeting} {run.user_id}."

        assert await self.told(Desk) == "You talk to ann."

    async def test_sections_as_an_attribute(self):
        @agent(model="scripted:x")
        class Desk:
            instructions = (Section("user", lambda user: f"You talk to {user}.", volatile="user_id"), "Be brief.")

        assert await self.told(Desk) == "Be brief.\n\nYou talk to ann."

    async def test_none_at_all(self):
        @agent(model="scripted:x")
        class Desk: ...

        assert await self.told(Desk) == ""


class TestInheritance:
    def test_tools_come_in_order_the_inherited_first(self):
        @agent
        class Desk(OrderDesk):
            @tool(effect="none")
            def more(self) -> str:
                return "more"

            @tool(effect="none", name="left")
            def left(self) -> int:
                """Another word on what is left."""
                return 1

        made = Agent.of(Desk)
        assert made.known_tools.names == ("take", "left", "more", "weather")
        assert made.manifest()["tools"][1]["description"] == "Another word on what is left."
        assert made.name == "desk"
        assert made.instructions == "You work at the order desk."

    async def test_inherited_tools_use_what_the_class_has_in_place(self):
        @agent
        class Empty(OrderDesk):
            def __init__(self) -> None:
                super().__init__(stock=0)

        left = Agent.of(Empty).known_tools.named("left")
        assert left is not None
        assert left() == 0

    def test_none_leaves_a_tool_out(self):
        @agent
        class Desk(OrderDesk):
            take = None  # type: ignore[assignment]

        assert Agent.of(Desk).known_tools.names == ("left", "weather")

    def test_a_method_that_hides_a_tool_is_refused(self):
        with pytest.raises(InvalidInput, match=r"Desk.left takes the place of a tool and is none; decorate it"):

            @agent
            class Desk(OrderDesk):
                def left(self) -> int:  # type: ignore[override]
                    return 1

    def test_a_class_that_is_not_decorated_is_no_agent_although_its_base_is(self):
        class Desk(OrderDesk): ...

        with pytest.raises(InvalidInput, match="Desk is no agent; use Agent"):
            AgentQ([Desk], settings=Settings())

    def test_static_methods_and_tools_of_others_are_tools_too(self):
        @agent
        class Desk:
            forecast = weather

            @staticmethod
            @tool(effect="none")
            def price(item: str) -> int:
                return len(item)

        assert Agent.of(Desk).known_tools.names == ("weather", "price")


class Local:
    """A type for annotations."""


def wants_arguments() -> Any:
    @agent
    class Desk:
        def __init__(self, url: str) -> None: ...

    return Desk


def has_a_wrong_tool() -> Any:
    @agent
    class Desk:
        @tool
        def look(self, where): ...

    return Desk


NO_LIST: Any = weather


def has_tools_of_a_function() -> Any:
    @agent(tools=NO_LIST)
    class Desk: ...

    return Desk


@pytest.mark.parametrize(
    ("make", "field", "words"),
    [
        (wants_arguments, "agent", "Desk wants arguments when it is made .*'url'.*; give them defaults"),
        (has_a_wrong_tool, "where", "look has no annotation for parameter where; write where: str"),
        (has_tools_of_a_function, "tools", "must be a list, which comes behind its methods"),
        (lambda: agent(max_iterations=0)(Local), "max_iterations", "class Local: max_iterations must be at least 1"),
        (lambda: agent(weather), "agent", "@agent is for classes"),  # type: ignore[call-overload]
        (lambda: AgentQ([Local]), "agents", "Local is no agent"),
        (lambda: AgentQ(["a"]), "agents", "'a' is no agent"),  # type: ignore[list-item]
    ],
)
def test_what_is_wrong_is_said_where_it_is_built(make: Callable[[], Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as raised:
        make()
    assert raised.value.field == field
