"""A real MCP server for the tests: over stdio, or over HTTP on the port that is its second argument.

It writes what was called into the file that is its first argument, one line a call.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations

LOG = Path(sys.argv[1])
server = MCPServer("tests")
waiting = asyncio.Event()


def note(what: str) -> None:
    with LOG.open("a") as file:
        file.write(what + "\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look(at: str) -> str:
    """Look at something."""
    note(f"look {at}")
    return f"saw {at}"


@server.tool(annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=True))
async def put(value: int) -> dict[str, int]:
    """Put a value."""
    note(f"put {value}")
    return {"value": value}


@server.tool()
async def buy(thing: str) -> str:
    """Buy a thing."""
    note(f"buy {thing}")
    return f"bought {thing}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def picture() -> Image:
    """Draw."""
    return Image(data=b"\x89PNG1234", format="png")


@server.tool()
def broken() -> str:
    """Fail."""
    raise ValueError("no more paper")


async def hang(tool: str) -> str:
    note(f"{tool} {os.getpid()}")
    await asyncio.sleep(3600)
    return "never"


@server.tool()
async def wait_once() -> str:
    """Never answer."""
    return await hang("wait_once")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def wait_none() -> str:
    """Never answer, until the server was started twice."""
    note(f"wait_none {os.getpid()}")
    if LOG.read_text().count("start") > 1:  # noqa: ASYNC240 - a test server
        return "at last"
    await asyncio.sleep(3600)
    return "never"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def slow(ctx: Context) -> str:
    """Say how far it is."""
    await ctx.report_progress(1, 4, "a quarter")
    await ctx.report_progress(5, 4, "more than all")
    return "done"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def grow(ctx: Context) -> str:
    """Have one tool more from now on."""
    server.add_tool(extra, name="extra")
    await ctx.notify_tools_changed()
    return "grown"


def extra() -> str:
    """Be new."""
    return "new"


note(f"start {os.getpid()}")
if len(sys.argv) > 2:
    server.run("streamable-http", port=int(sys.argv[2]), stateless_http="stateless" in sys.argv)
else:
    server.run("stdio")
