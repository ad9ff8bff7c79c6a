"""An agent with the tools of an MCP server: `python -m examples.mcp_server`. Needs `pip install 'agentq-redis[mcp]'`.

With the argument `serve` it is the server, which the agent starts as a child process.
"""

from __future__ import annotations

import asyncio
import sys

from agentq import Agent, AgentQ
from agentq.mcp import MCPServer

warehouse = MCPServer(
    "warehouse",
    command=[sys.executable, "-m", "examples.mcp_server", "serve"],
    prefix="wh_",
    options={"stock": {"retries": 2}},
)
app = AgentQ(agents=[Agent("clerk", model="mock", tools=[warehouse])])


def serve() -> None:
    """Be the server. Its hint says that `stock` only reads, so a call may be made again."""
    from mcp.server.mcpserver import MCPServer as Server
    from mcp_types import ToolAnnotations

    server = Server("warehouse")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def stock(item: str) -> str:
        """Tell how many of an item there are."""
        return f"{item}: 12"

    server.run("stdio")


async def main() -> None:
    """Ask the agent, which asks the server."""
    result = await app.run("clerk", 'call wh_stock {"item": "tea"}')
    print(result.output)
    await app.aclose()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        asyncio.run(main())
