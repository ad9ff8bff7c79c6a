"""How a request to an MCP server fails where it is not the server that says so. A tool may be called again for them."""

from __future__ import annotations


class ServerAway(ConnectionError):
    """The server cannot be reached, or took nothing up: what was asked did not happen."""


class ServerGone(ConnectionError):
    """The server went away in the middle: nobody knows whether what was asked has happened."""
