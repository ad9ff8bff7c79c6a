"""The tools of an agent with something done to each, whether they are known beforehand or asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentq.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentq.loop import Agent
    from agentq.runs import RunState
    from agentq.tools.function import Tool
    from agentq.tools.toolset import ToolList


def changed_tools(agent: Agent, change: Callable[[Tool], Tool]) -> ToolList:
    """What to give an agent as its tools in place of this one's."""

    async def tools_of_run(run: RunState) -> Sequence[Tool]:
        toolbox = await agent.find_tools(run)
        if toolbox.problem is not None:
            raise ToolError(toolbox.problem)
        return [change(each.tool) for each in toolbox.offered]

    return tools_of_run if agent.tools_vary else [change(each.tool) for each in agent.known_tools.offered]
