"""A worker over a real Redis whose agent has the tools of an MCP server."""

from __future__ import annotations

import asyncio

from agentq import Agent, AgentQ, Settings
from agentq.tools.toolset import Toolset
from tests.mcp.conftest import Log, is_alive, over_stdio
from tests.worker.harness import client_at, working


async def test_a_worker_has_one_session_for_all_its_runs_and_ends_the_server_when_it_stops(redis_url: str, log: Log):
    agent = Agent("clerk", model="mock", tools=[Toolset("all", [over_stdio(log)], prefix="x_")])
    app = AgentQ([agent], settings=Settings(redis_url=redis_url))
    async with client_at(redis_url) as client:
        async with working(app) as running:
            allowed = [await client.enqueue("clerk", 'call x_look {"at": "tea"}', tools=["shop"]) for _ in range(4)]
            other = await client.enqueue("clerk", 'call x_look {"at": "tea"}', tools=["x_buy"])
            results = await asyncio.gather(*[run.result(20) for run in (*allowed, other)])
            (pid,) = log.pids()
            assert is_alive(pid)
            await running.stopped()
        assert [result.output for result in results[:4]] == ["saw tea"] * 4
        (refused,) = results[4].messages[2].tool_results
        assert refused.content == "There is no tool named x_look; there are: x_buy"
    assert not is_alive(pid)
    assert log.lines().count("look tea") == 4
