"""MCP servers that die, hang, lie or never start: what becomes of the calls, and of those who wait."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentq import Agent, AgentQ, RunFailed, Settings, ToolError
from agentq.mcp import MCPServer
from agentq.mcp._errors import ServerAway, ServerGone
from agentq.runs import Status
from agentq.testing import ScriptedModel, call
from tests.helpers import wait_until
from tests.mcp.conftest import RUN, SCRIPT, HttpServer, Log, is_alive, over_stdio, tools_of, use
from tests.unit._loop import Stage, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["stdio", "http"])
async def killable(
    request: pytest.FixtureRequest, log: Log
) -> AsyncIterator[tuple[MCPServer, Callable[[], None], Callable[[], None]]]:
    """A server, how to kill it, and how to have it again where nobody starts it by himself."""
    if request.param == "stdio":
        made = over_stdio(log)
        yield made, log.kill, lambda: None
    else:
        http: HttpServer = request.getfixturevalue("http")
        made = MCPServer("shop", url=http.url)
        yield made, http.kill, http.start
    await made.aclose()


async def test_a_call_that_must_not_be_repeated_is_not_when_its_server_dies(killable: Any, log: Log):
    server, kill, revive = killable
    tools = await tools_of(server)
    calling = asyncio.create_task(use(tools["wait_once"]))
    await log.wait_for("wait_once")
    kill()
    with pytest.raises(ToolError, match="Outcome unknown: MCP server shop went away"):
        await calling
    revive()
    assert await use((await tools_of(server))["look"], at="tea") == "saw tea"
    assert sum(line.startswith("wait_once") for line in log.lines()) == 1
    assert len(log.pids()) == 2


async def test_a_call_that_only_reads_fails_and_may_be_made_again(killable: Any, log: Log):
    server, kill, revive = killable
    tools = await tools_of(server)
    calling = asyncio.create_task(use(tools["wait_none"]))
    await log.wait_for("wait_none")
    kill()
    with pytest.raises(ServerGone, match="MCP server shop went away"):
        await calling
    revive()
    assert await use(tools["wait_none"]) == "at last"


async def test_retries_of_the_tool_outlive_the_death_of_its_server(log: Log):
    options: dict[str, Any] = {"wait_none": {"retries": 3, "retry_backoff_s": 0.05}}
    stage = Stage(ScriptedModel([call("wait_none"), "done"]), over_stdio(log, options=options))
    _, task = await stage.begin()
    await log.wait_for("wait_none")
    log.kill()
    assert (await outcome_of(task)).status is Status.QUEUED
    assert [result.content for result in await stage.results()] == ["at last"]
    assert len(log.pids()) == 2
    await AgentQ().aclose()


async def test_the_model_reads_that_the_outcome_is_unknown_and_the_run_goes_on(log: Log):
    stage = Stage(ScriptedModel([call("wait_once"), call("look", at="tea"), "done"]), over_stdio(log))
    _, task = await stage.begin()
    await log.wait_for("wait_once")
    log.kill()
    assert (await outcome_of(task)).status is Status.QUEUED
    assert (await stage.play()).status is Status.COMPLETED
    first, second = await stage.results()
    assert (first.outcome, second.content) == ("error", "saw tea")
    assert first.content.startswith("Outcome unknown")
    await AgentQ().aclose()


async def test_a_server_that_died_between_calls_is_noticed_before_the_next_one(log: Log):
    server = over_stdio(log)
    tools = await tools_of(server)
    log.kill()
    (place,) = server._places.values()  # noqa: SLF001 - what others wait for by looking
    session = place.session
    assert session is not None
    await wait_until(lambda: session.is_over)
    assert await use(tools["buy"], thing="tea") == "bought tea"
    await server.aclose()


async def test_a_server_over_http_that_started_anew_is_asked_before_an_effect(
    http: HttpServer, log: Log, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentq.mcp.server._HEARD_S", 0.0)
    server = MCPServer("shop", url=http.url)
    tools = await tools_of(server)
    http.kill()
    http.start()
    assert await use(tools["buy"], thing="tea") == "bought tea"
    http.kill()
    with pytest.raises(ServerAway, match="buy was not called: MCP server shop cannot be reached"):
        await use(tools["buy"], thing="tea")
    await server.aclose()
    assert log.lines().count("buy tea") == 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/program"], "cannot be reached: .*No such file"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "cannot be reached: "),
        ([sys.executable, "-c", "print('no JSON', flush=True)"], "cannot be reached: "),
    ],
)
async def test_a_server_that_does_not_start_is_away(command: list[str], words: str):
    server = MCPServer("shop", command=command)
    for _ in range(2):
        with pytest.raises(ServerAway, match=words):
            await server.tools_for(RUN)
    await server.aclose()


async def test_a_server_that_says_nothing_is_given_up_and_ended(tmp_path: Any):
    script = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    pid_file = tmp_path / "pid"
    server = MCPServer("shop", command=[sys.executable, "-c", script, str(pid_file)], open_timeout=0.5)
    with pytest.raises(ServerAway, match=r"it did not answer within 0.5 s"):
        await server.tools_for(RUN)
    await server.aclose()
    assert not pid_file.exists() or not is_alive(int(pid_file.read_text()))


async def test_who_comes_right_after_a_failure_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentq.mcp.server._BACKOFF_S", 600.0)
    server = MCPServer("shop", command=["/no/such/program"])
    with pytest.raises(ServerAway):
        await server.tools_for(RUN)
    (place,) = server._places.values()  # noqa: SLF001 - whether another one was opened
    failed = place.session
    with pytest.raises(ServerAway, match="No such file"):
        await server.tools_for(RUN)
    assert place.session is failed
    await server.aclose()


async def test_a_run_whose_server_cannot_be_started_fails_with_the_reason():
    agent = Agent(
        "clerk", model="m:x", tools=[MCPServer("shop", command=["/no/such"])], max_error_retries=1, retry_backoff_s=0
    )
    app = AgentQ([agent], settings=Settings(), models={"m": ScriptedModel([])})
    with pytest.raises(RunFailed, match=r"the tools of shop cannot be had: .*No such file"):
        await app.run("clerk", "hello")
    await app.aclose()


async def test_a_worker_that_is_killed_takes_its_server_along(log: Log):
    code = (
        "import asyncio, sys\nfrom agentq.mcp import MCPServer\nfrom agentq.runs import RunState, Status\n"
        "async def main():\n"
        "    await MCPServer('shop', command=sys.argv[1:]).tools_for(RunState('R', 'a', Status.RUNNING))\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code, sys.executable, SCRIPT, str(log.path))
    await log.wait_for("start")
    worker.kill()
    await worker.wait()
    await wait_until(lambda: not is_alive(log.pids()[0]), message="the server has ended")


async def test_a_forked_child_leaves_the_session_of_its_parent_alone(log: Log, monkeypatch: pytest.MonkeyPatch):
    server = over_stdio(log)
    await tools_of(server)
    parents = server._places  # noqa: SLF001 - what a fork would copy
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: -1)
        await tools_of(server)
        await server.aclose()
    first, second = log.pids()
    assert (is_alive(first), is_alive(second)) == (True, False)
    server._pid, server._places = -2, {}  # noqa: SLF001 - back in the parent
    for place in parents.values():
        assert place.session is not None
        await place.session.aclose()


async def test_a_call_that_never_returns_is_ended_by_its_time_limit(killable: Any, log: Log):
    server, _, _ = killable
    server._timeout = 0.3  # noqa: SLF001 - made by the fixture
    stage = Stage(ScriptedModel([call("wait_once"), call("look", at="tea"), "done"]), server)
    assert (await stage.play()).status is Status.COMPLETED
    first, second = await stage.results()
    assert first.content == "wait_once did not finish within 0.3 s"
    assert second.content == "saw tea"
    assert len(log.pids()) == 1
