"""Toolsets, sources and functions of the run: which tools an iteration has, and what if they cannot be had."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from agentq import _ids
from agentq.errors import InvalidInput
from agentq.loop import Agent, toolbox
from agentq.runs import RunState, Status
from agentq.testing import ScriptedModel, call
from agentq.tools.function import Tool, tool
from agentq.tools.toolset import Toolset, ToolSource
from tests.helpers import wait_until
from tests.unit._loop import Gate, Stage, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUN = RunState(run_id=_ids.new_run_id(), agent="calculator", status=Status.RUNNING)


@tool(effect="none")
async def look(at: str = "") -> str:
    """Look at something."""
    return f"saw {at}"


@tool(effect="once")
async def buy(what: str = "") -> str:
    """Buy something."""
    return f"bought {what}"


class Source:
    """Answers with what the test put in; an exception is raised."""

    def __init__(self, name: str, *answers: Any) -> None:
        self.name = name
        self.answers = list(answers)
        self.asked = 0

    async def tools_for(self, run: RunState) -> Sequence[Any]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def agent_with(tools: Any) -> Agent:
    return Agent("calculator", tools=tools)


async def names_of(tools: Any, run: RunState = RUN) -> list[str]:
    toolbox = await Agent("calculator", tools=tools).find_tools(run)
    assert toolbox.problem is None
    return list(toolbox.names)


async def problem_of(tools: Any) -> str:
    problem = (await Agent("calculator", tools=tools).find_tools(RUN)).problem
    assert problem is not None
    return problem


# --- what an agent offers


def test_a_toolset_lends_its_prefix_to_the_tools_in_it():
    shop = Toolset("shop", [look, Toolset("till", [buy], prefix="till_")], prefix="shop_")
    agent = Agent("calculator", tools=[look, shop])
    assert agent.known_tools.names == ("look", "shop_look", "shop_till_buy")
    assert [spec.name for spec in agent.known_tools.specs] == ["look", "shop_look", "shop_till_buy"]
    assert agent.known_tools.offered[2].toolsets == ("shop", "till")
    assert agent.toolbox(RUN) is agent.known_tools
    assert look.name == look.spec.name == "look"


def test_plain_functions_in_a_toolset_become_tools():
    def add(a: float, b: float) -> float:
        return a + b

    (entry,) = Toolset("sums", [add]).tools  # type: ignore[misc]  # it was given a list
    assert isinstance(entry, Tool)


@pytest.mark.parametrize(
    ("build", "field", "words"),
    [
        (lambda: agent_with([look, look]), "tools", "two tools named 'look'"),
        (lambda: agent_with([look, Toolset("t", [look])]), "tools", "give a toolset a prefix"),
        (lambda: agent_with([Toolset("look", [buy]), look]), "tools", "a tool and a toolset named 'look'"),
        (lambda: agent_with([Source("look", []), look]), "tools", "a tool and a toolset named 'look'"),
        (lambda: agent_with(look), "tools", r"write tools=\[look\]"),
        (lambda: agent_with(Toolset("shop", [look])), "tools", r"write tools=\[shop\]"),
        (lambda: agent_with(buy.function), "tools", None),
        (lambda: agent_with(lambda a, b: []), "tools", "takes the run alone"),
        (lambda: agent_with("look"), "tools", "must be a list"),
        (lambda: agent_with(7), "tools", "must be a list"),
        (lambda: Toolset("two words", []), "name", "not a name"),
        (lambda: Toolset("shop", [look], prefix="a b"), "prefix", "prefix must be"),
        (lambda: Toolset("shop", [look], prefix=None), "prefix", "prefix must be"),  # type: ignore[arg-type]
        (lambda: Toolset("shop", [Toolset("x", [look], "a" * 50)], prefix="b" * 30), "name", "1 to 64 letters"),
    ],
)
def test_what_cannot_be_is_refused_at_once(build: Callable[[], Any], field: str, words: str | None):
    if words is None:  # one parameter: it may well be a function of the run
        build()
        return
    with pytest.raises(InvalidInput, match=words) as caught:
        build()
    assert caught.value.field == field


async def test_a_function_of_the_run_says_which_tools_it_has():
    async def by_user(run: RunState) -> list[Any]:
        return [look, buy] if run.user_id == "staff" else [look]

    for given in (by_user, lambda run: [look, buy] if run.user_id == "staff" else [look], lambda run: by_user(run)):  # noqa: PLW0108
        assert await names_of(given) == ["look"]
        assert await names_of(given, dataclasses.replace(RUN, user_id="staff")) == ["look", "buy"]


async def test_a_toolset_may_be_a_function_of_the_run_and_may_hold_sources():
    source = Source("crm", [buy.function])
    tools = [look, Toolset("late", lambda run: [look, source], prefix="x_")]
    toolbox = await Agent("calculator", tools=tools).find_tools(RUN)
    assert toolbox.names == ("look", "x_look", "x_buy")
    assert [each.toolsets for each in toolbox.offered] == [(), ("late",), ("late", "crm")]


async def test_whoever_makes_a_source_for_each_run_is_warned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    class Open(Source):
        async def aclose(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(toolbox, "_asked_sources", {})
    kept = Open("kept", [])
    for number in range(120):
        await names_of([kept, Open(f"s{number}", [])])
    assert caplog.text.count("make each once, and not in a function of the run") == 1


async def test_sources_are_asked_at_once():
    gate = Gate()

    class Slow(Source):
        async def tools_for(self, run: RunState) -> Sequence[Any]:
            return await gate.wait([]) or ()

    asking = asyncio.create_task(names_of([Slow("a"), Slow("b")]))
    await wait_until(lambda: gate.entered == 2)
    gate.open()
    assert await asking == []


def test_a_source_is_anything_with_a_name_and_tools_for():
    assert isinstance(Source("crm"), ToolSource)
    assert not isinstance(look, ToolSource)
    assert not isinstance(Toolset("t"), ToolSource)


# --- what goes wrong


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([Source("crm", OSError("down"))], "the tools of crm cannot be had: OSError: down"),
        ([Source("crm", asyncio.CancelledError())], "the tools of crm cannot be had: CancelledError"),
        (lambda run: 1 / 0, "the tools of the function of the run cannot be had: ZeroDivisionError"),
        (lambda run: None, "tools must be a list, or a function of the run, not NoneType"),
        (lambda run: [look, look], "two tools named 'look'"),
        ([look, Source("crm", [look])], "two tools named 'look'"),
        ([look, Source("crm", [Toolset("look", [buy])])], "a tool and a toolset named 'look'"),
        ([Source("crm", [Source("inner", OSError("down"))])], "the tools of inner cannot be had"),
    ],
)
async def test_what_fails_is_the_problem_of_the_toolbox(tools: Any, words: str):
    assert words in await problem_of(tools)


async def test_of_two_tools_of_one_name_neither_can_be_called():
    toolbox = await Agent("calculator", tools=[buy, look, Source("crm", [look])]).find_tools(RUN)
    assert toolbox.names == ("buy",)
    stand_in = toolbox.named("look")
    assert stand_in is not None
    assert stand_in.effect == "none"


async def test_a_turn_without_its_tools_fails_and_is_tried_again():
    source = Source("crm", OSError("down"), [look])
    model = ScriptedModel(["never asked for", call("look"), "done"])
    stage = Stage(model, source)
    first = await stage.advance()
    assert first.status is Status.QUEUED
    assert len(model.requests) == 0
    assert "the tools of crm cannot be had: OSError: down" in (await stage.notes())[0]
    run = await stage.play()
    assert run.status is Status.COMPLETED
    assert [result.content for result in await stage.results()] == ["saw "]


async def test_a_run_whose_tools_never_come_fails_by_its_budget():
    stage = Stage(ScriptedModel([]), Source("crm", OSError("down")), max_error_retries=2)
    run = await stage.play()
    assert run.status is Status.FAILED
    assert "3 turns in a row failed" in (run.last_error or "")
    assert "the tools of crm" in (run.last_error or "")


async def test_calls_in_the_journal_go_on_without_a_source_that_is_away():
    source = Source("crm", [buy])
    model = ScriptedModel([[call("look"), call("buy")], "done"])
    stage = Stage(model, look, source)
    died: list[str] = []

    async def die(name: str, what: Any) -> None:
        if name == "journal" and any(getattr(each, "name", "") == "reply" for each in what):
            stage.store.before = None
            died.append(name)
            iteration.lose()

    stage.store.before = die
    iteration, task = await stage.begin()
    await outcome_of(task)
    assert died
    source.answers = [OSError("down")]
    claim = await stage.lose_lease()
    outcome = await stage.loop.begin(claim).run()
    assert outcome.status is Status.QUEUED
    results = await stage.results()
    assert [result.outcome for result in results] == ["ok", "error"]
    assert results[1].content.startswith("the tool buy cannot be reached: the tools of crm cannot be had")
    assert (await stage.read()).errors == 1


async def test_a_tool_that_has_vanished_is_unknown():
    asked: list[int] = []

    def shrinking(run: RunState) -> list[Any]:
        asked.append(run.iteration)
        return [look] if run.iteration == 0 else []

    stage = Stage(ScriptedModel([call("look"), call("look"), "done"]))
    stage.loop.agents = {"calculator": Agent("calculator", tools=shrinking)}
    await stage.play()
    assert [result.content for result in await stage.results()] == ["saw ", "There is no tool named look; use none"]
    assert asked == [0, 1, 2]


async def test_a_cancel_does_not_wait_for_a_source_that_hangs():
    gate = Gate()

    class Hanging(Source):
        async def tools_for(self, run: RunState) -> Sequence[Any]:
            return await gate.wait([])  # type: ignore[no-any-return]

    stage = Stage(ScriptedModel(["done"]), Hanging("crm"))
    iteration, task = await stage.begin()
    await wait_until(lambda: gate.entered == 1)
    await stage.store.cancel(stage.run_id, reason="enough")
    iteration.cancel()
    assert (await outcome_of(task)).status is Status.CANCELLED
    assert gate.stopped == 1


async def test_a_shutdown_does_not_wait_for_a_source_that_hangs():
    gate = Gate()

    class Hanging(Source):
        async def tools_for(self, run: RunState) -> Sequence[Any]:
            return await gate.wait([])  # type: ignore[no-any-return]

    stage = Stage(ScriptedModel(["done"]), Hanging("crm"))
    iteration, task = await stage.begin()
    await wait_until(lambda: gate.entered == 1)
    iteration.hand_back()
    outcome = await outcome_of(task)
    assert (outcome.kind, outcome.status) == ("released", Status.QUEUED)


async def test_a_rumour_of_a_cancel_only_delays_the_question():
    gate = Gate()

    class Hanging(Source):
        async def tools_for(self, run: RunState) -> Sequence[Any]:
            return await gate.wait([look])  # type: ignore[no-any-return]

    stage = Stage(ScriptedModel(["done"]), Hanging("crm"))
    iteration, task = await stage.begin()
    await wait_until(lambda: gate.entered == 1)
    iteration.cancel()
    await wait_until(lambda: gate.entered == 2)
    gate.open()
    assert (await outcome_of(task)).status is Status.COMPLETED
