"""MCP servers as sources of tools, over both ways: what models are told of them, and what their results become."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, File, InvalidInput, Settings, ToolError, ToolResult
from agentq.mcp import MCPServer
from agentq.testing import ScriptedModel, call
from tests.helpers import wait_until
from tests.mcp.conftest import RUN, HttpServer, Log, is_alive, over_stdio, tools_of, use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["stdio", "http"])
async def server(request: pytest.FixtureRequest, log: Log) -> AsyncIterator[MCPServer]:
    if request.param == "stdio":
        made = over_stdio(log)
    else:
        http: HttpServer = request.getfixturevalue("http")
        made = MCPServer("shop", url=http.url)
    yield made
    await made.aclose()


def app_with(model: ScriptedModel, *tools: Any) -> AgentQ:
    return AgentQ([Agent("clerk", model="m:x", tools=tools)], settings=Settings(), models={"m": model})


async def test_hints_of_the_server_say_what_repeating_a_call_does(server: MCPServer):
    tools = await tools_of(server)
    facts = {
        name: (tools[name].effect, tools[name].behaviour.read_only, tools[name].behaviour.destructive)
        for name in ("look", "put", "buy")
    }
    assert facts == {
        "look": ("none", True, False),
        "put": ("idempotent", False, True),
        "buy": ("once", False, False),
    }
    assert tools["look"].description == "Look at something."
    assert tools["look"].parameters["properties"]["at"]["type"] == "string"
    assert tools["look"].timeout_s == 60


async def test_results_are_text_and_files(server: MCPServer):
    tools = await tools_of(server)
    assert await use(tools["look"], at="tea") == "saw tea"
    assert '"value": 3' in await use(tools["put"], value=3)
    assert await use(tools["picture"]) == ToolResult("", [File(b"\x89PNG1234", media_type="image/png")])
    with pytest.raises(ToolError, match="broken"):
        await use(tools["broken"])


async def test_a_run_uses_them_and_may_be_given_them_by_the_name_of_the_server(log: Log):
    model = ScriptedModel([call("shop_look", at="tea"), "done"])
    app = app_with(model, over_stdio(log, prefix="shop_", only=["look", "buy"]))
    result = await app.run("clerk", "hello", tools=["shop"])
    assert result.output == "done"
    assert [spec.name for spec in model.requests[0].tools] == ["shop_look", "shop_buy"]
    assert [part.content for message in result.messages for part in message.tool_results] == ["saw tea"]
    (pid,) = log.pids()
    await app.aclose()
    assert not is_alive(pid)


async def test_one_session_serves_many_runs(log: Log):
    model = ScriptedModel([[call("look", at="a"), call("look", at="b")], "done"])
    app = app_with(model, over_stdio(log))
    await asyncio.gather(*[app.run("clerk", "hello") for _ in range(5)])
    await app.aclose()
    assert len(log.pids()) == 1
    assert sum(line.startswith("look") for line in log.lines()) == 10


async def test_progress_is_told(log: Log):
    events: list[Any] = []
    app = app_with(ScriptedModel([call("slow"), "done"]), over_stdio(log))
    await app.run("clerk", "hello", on_event=events.append)
    await app.aclose()
    told = [(e.message, e.fraction) for e in events if e.type == "tool.progress"]
    assert told[-1] == ("more than all", 1.0)
    assert set(told) <= {("a quarter", 0.25), ("more than all", 1.0)}  # of two at once the newer is told


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ({"url": "https://ann:sk-1234@tools.example:8443/mcp?key=sk-1234"}, "<MCPServer shop tools.example/mcp>"),
        ({"command": ["/bin/server", "--key", "sk-1234"]}, "<MCPServer shop /bin/server>"),
    ],
)
def test_its_repr_shows_no_key(where: dict[str, Any], shown: str):
    assert repr(MCPServer("shop", **where)) == shown


async def test_a_list_that_has_changed_is_asked_for_anew(server: MCPServer):
    tools = await tools_of(server)
    assert await server.tools_for(RUN) is await server.tools_for(RUN)
    assert "extra" not in tools
    assert await use(tools["grow"]) == "grown"

    async def is_there() -> bool:
        return "extra" in await tools_of(server)

    for _ in range(100):
        if await is_there():
            break
        await asyncio.sleep(0.05)
    assert await use((await tools_of(server))["extra"]) == "new"


async def test_what_the_user_says_of_a_tool_counts_more_than_the_server(log: Log):
    server = over_stdio(
        log,
        exclude=["picture"],
        effects={"buy": "idempotent", "put": "none"},
        options={"buy": {"retries": 2, "max_result_chars": 10}, "look": {"timeout": 5}},
    )
    tools = await tools_of(server)
    await server.aclose()
    assert "picture" not in tools
    assert (tools["buy"].effect, tools["buy"].behaviour.retries) == ("idempotent", 2)
    assert (tools["put"].effect, tools["put"].behaviour.destructive) == ("none", False)
    assert (tools["look"].timeout_s, tools["look"].effect) == (5, "none")


async def test_hints_of_a_server_that_is_not_trusted_do_not_count(log: Log):
    server = over_stdio(log, trusts_hints=False)
    tools = await tools_of(server)
    await server.aclose()
    assert {tool.effect for tool in tools.values()} == {"once"}


async def test_headers_are_sent_with_every_request_as_a_function_gives_them(http: HttpServer):
    asked: list[int] = []

    async def headers() -> dict[str, str]:
        asked.append(1)
        return {"Authorization": f"Bearer {len(asked)}"}

    server = MCPServer("shop", url=http.url, headers=headers)
    tools = await tools_of(server)
    before = len(asked)
    await use(tools["look"], at="tea")
    await server.aclose()
    assert 0 < before < len(asked)


def test_a_program_that_ends_leaves_no_server_behind(log: Log):
    app = app_with(ScriptedModel([call("look", at="tea"), "done"]), over_stdio(log))
    asyncio.run(app.run("clerk", "hello"))
    (pid,) = log.pids()
    assert not is_alive(pid)


def test_each_event_loop_has_a_session_of_its_own(log: Log):
    server = over_stdio(log)

    async def once() -> None:
        assert "look" in await tools_of(server)
        await server.aclose()

    asyncio.run(once())
    asyncio.run(once())
    assert len(log.pids()) == 2


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({}, "command", "either a command"),
        ({"command": ["x"], "url": "http://x"}, "command", "either a command"),
        ({"command": "npx server"}, "command", "must be a list"),
        ({"command": []}, "command", "must be a list"),
        ({"command": ["x"], "headers": {"a": "b"}}, "headers", "with a url"),
        ({"url": "example.org"}, "url", "must begin with https"),
        ({"url": "https://x", "env": {"A": "b"}}, "env", "with a command"),
        ({"url": "https://x", "cwd": "/tmp"}, "cwd", "with a command"),
        ({"url": "https://x", "headers": "a"}, "headers", "must be a dict"),
        ({"url": "https://x", "only": "look"}, "only", "list of names"),
        ({"url": "https://x", "timeout": 0}, "timeout", "above 0"),
        ({"url": "https://x", "open_timeout": 0}, "open_timeout", "above 0"),
        ({"url": "https://x", "effects": {"a": "never"}}, "effects", "tool a: effect must be"),
        ({"url": "https://x", "options": {"a": {"colour": "red"}}}, "options", "does not know"),
        ({"url": "https://x", "options": {"a": {"retries": -1}}}, "options", "tool a: retries must be"),
        ({"url": "https://x", "options": []}, "options", "must be a dict"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], field: str, words: str):
    with pytest.raises(InvalidInput, match=words) as caught:
        MCPServer("shop", **options)
    assert caught.value.field == field


def test_without_the_extra_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch):
    find_spec: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mcp" else find_spec(name))
    with pytest.raises(InvalidInput, match=r"pip install 'agentq-redis\[mcp\]'"):
        MCPServer("shop", url="https://example.org/mcp")


def test_an_app_with_a_server_starts_without_the_sdk():
    code = (
        "import sys; from agentq.mcp import MCPServer; MCPServer('a', url='http://x'); assert 'mcp' not in sys.modules"
    )
    assert __import__("subprocess").run([sys.executable, "-c", code], check=False).returncode == 0


async def test_an_option_that_does_not_fit_the_tool_is_said_when_it_is_known(log: Log):
    server = over_stdio(log, options={"buy": {"retries": 2}})
    with pytest.raises(InvalidInput, match="MCP server shop, tool buy: retries is for tools with"):
        await server.tools_for(RUN)
    await server.aclose()


async def test_cancelling_one_who_waits_for_the_session_harms_no_other(log: Log):
    server = over_stdio(log)
    first, second = (asyncio.create_task(tools_of(server)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert "look" in await second
    await wait_until(first.cancelled)
    await server.aclose()
    assert len(log.pids()) == 1
