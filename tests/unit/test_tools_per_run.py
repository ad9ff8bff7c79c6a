"""Which tools one run may use: chosen when it is enqueued, kept with it, and checked against what its agent has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, AsyncClient, InvalidInput, Settings, tool
from agentq.archive.records import RunRecord
from agentq.catalogue import Catalogue
from agentq.errors import IdempotencyConflict
from agentq.intake import check_tools
from agentq.runs import RunState, Status
from agentq.stores._records import fields_of_ended_run, run_of_hash
from agentq.stores.memory import MemoryStore
from agentq.testing import ScriptedModel, call
from agentq.tools.toolset import Toolset
from tests.unit._loop import NotedWakeups, Stage
from tests.unit.test_toolsets import Source, buy, look

if TYPE_CHECKING:
    from collections.abc import Mapping


SHOP = Toolset("shop", [buy], prefix="shop_")


class Publishing(MemoryStore):
    """A store where workers have published these agents."""

    def __init__(self, *agents: Agent) -> None:
        super().__init__()
        self.manifests: dict[str, dict[str, Any]] = {agent.name: agent.manifest() for agent in agents}

    async def known_agents(self) -> Mapping[str, Any]:
        return self.manifests


def client_of(store: MemoryStore) -> AsyncClient:
    return AsyncClient(settings=Settings(), store=store, stream=store.stream, executor=NotedWakeups())


async def play(*replies: Any, tools: Any, of: Any) -> tuple[Stage, ScriptedModel]:
    model = ScriptedModel(replies)
    stage = Stage(model, *of)
    await stage.enqueue(tools=tools)
    await stage.play()
    return stage, model


@pytest.mark.parametrize(
    ("tools", "offered"),
    [
        (None, ["look", "shop_buy"]),
        ((), []),
        (("look",), ["look"]),
        (("shop",), ["shop_buy"]),
        (("shop_buy", "shop"), ["shop_buy"]),
        (("gone",), []),
    ],
)
async def test_the_model_is_offered_what_the_run_may_use(tools: tuple[str, ...] | None, offered: list[str]):
    for of in ([look, SHOP], [look, SHOP, Source("crm", [])]):
        _, model = await play("done", tools=tools, of=of)
        assert [spec.name for spec in model.requests[0].tools] == offered


async def test_a_call_of_another_tool_is_a_call_of_an_unknown_one():
    stage, _ = await play([call("shop_buy"), call("look")], "done", tools=("look",), of=[look, SHOP])
    assert [result.content for result in await stage.results()] == [
        "There is no tool named shop_buy; there are: look",
        "saw ",
    ]


async def test_a_run_that_needs_nothing_of_a_source_does_not_fail_with_it():
    source = Source("crm", OSError("down"))
    stage, _ = await play(call("look"), "done", tools=("look",), of=[look, source])
    assert [result.outcome for result in await stage.results()] == ["ok"]
    assert source.asked == 0
    stage, model = await play(
        "never asked for", "done", tools=("crm",), of=[look, Source("crm", OSError("down"), [buy])]
    )
    assert [spec.name for spec in model.requests[-1].tools] == ["buy"]


async def test_names_that_the_agent_does_not_have_are_refused_before_anything_is_stored():
    store = Publishing(Agent("clerk", tools=[look, SHOP]))
    client = client_of(store)
    with pytest.raises(
        InvalidInput, match="'clerk' has no tool or toolset named 'buy'; there are: shop, look, shop_buy"
    ):
        await client.enqueue("clerk", "hello", tools=["look", "buy"])
    assert await client.list() == ()
    run = await client.enqueue("clerk", "hello", tools=["look", "shop", "look"])
    assert (await run.read()).tools == ("look", "shop")


async def test_names_are_taken_unseen_where_nobody_can_know_them():
    varying = Agent("clerk", tools=lambda run: [look])
    earlier = {name: value for name, value in Agent("old").manifest().items() if name not in ("toolsets", "tools_vary")}
    store = Publishing(varying)
    store.manifests["old"] = earlier
    client = client_of(store)
    for agent in ("clerk", "old"):
        assert (await (await client.enqueue(agent, "hello", tools=["later"])).read()).tools == ("later",)


async def test_the_same_key_with_other_tools_is_another_request():
    client = client_of(MemoryStore())
    first = await client.enqueue("a", "hello", tools=["b", "a"], idempotency_key="k")
    again = await client.enqueue("a", "hello", tools=["a", "b"], idempotency_key="k")
    assert again.id == first.id
    for other in (None, [], ["a"]):
        with pytest.raises(IdempotencyConflict):
            await client.enqueue("a", "hello", tools=other, idempotency_key="k")


async def test_a_run_in_process_takes_them_too():
    model = ScriptedModel(["done"])
    app = AgentQ([Agent("clerk", model="m:x", tools=[look, SHOP])], settings=Settings(), models={"m": model})
    await app.run("clerk", "hello", tools=["shop"])
    assert [spec.name for spec in model.requests[0].tools] == ["shop_buy"]
    with pytest.raises(InvalidInput, match="no tool or toolset named 'crm'"):
        await app.run("clerk", "hello", tools=["crm"])
    with pytest.raises(InvalidInput, match="it has none"):
        check_tools(["x"], Agent("bare").manifest())


@pytest.mark.parametrize("tools", [None, (), ("look", "shop")])
def test_an_archive_and_a_hash_give_back_the_tools(tools: tuple[str, ...] | None):
    run = RunState("01" + "A" * 24, "clerk", Status.COMPLETED, tools=tools)
    record = RunRecord.of(run, "", {})
    assert RunRecord.model_validate_json(record.model_dump_json()).state.tools == tools
    fields = [item if isinstance(item, bytes) else item.encode() for item in fields_of_ended_run(run, "")]
    assert run_of_hash(run.run_id, fields).tools == tools


def test_a_manifest_says_what_people_want_to_know_of_a_tool():
    @tool(effect="once", destructive=True)
    def wipe() -> None:
        """Wipe."""

    manifest = Agent("clerk", tools=[look, Toolset("disk", [Toolset("inner", [wipe])])]).manifest()
    facts = [
        {name: each[name] for name in ("name", "effect", "read_only", "destructive", "toolset")}
        for each in manifest["tools"]
    ]
    assert facts == [
        {"name": "look", "effect": "none", "read_only": True, "destructive": False, "toolset": None},
        {"name": "wipe", "effect": "once", "read_only": False, "destructive": True, "toolset": "inner"},
    ]
    assert (manifest["toolsets"], manifest["tools_vary"]) == (["disk", "inner"], False)
    assert Agent("clerk", tools=[Source("crm", [])]).manifest()["tools_vary"]


async def test_a_manifest_without_the_newer_fields_is_read():
    store = Publishing()
    store.manifests["old"] = {"name": "old", "model": "mock", "tools": [{"name": "x"}]}
    assert (await Catalogue().manifest(store, "old"))["tools"] == [{"name": "x"}]
