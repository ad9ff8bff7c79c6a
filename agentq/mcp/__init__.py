"""Tools of MCP servers, as a source that agents may have among their tools. Needs the extra `mcp`."""

from agentq.mcp.server import MCPServer

__all__ = ["MCPServer"]
