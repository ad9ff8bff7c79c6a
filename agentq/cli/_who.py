"""Who decides: the name that is given, or else what this machine calls its user; and from where."""

from __future__ import annotations

import click

WHO = click.option(
    "--as",
    "--by",
    "by",
    metavar="NAME",
    help="Who says it, for the record [your name on this machine].",
)


def who(given: str | None) -> str:
    """The name that decisions carry. A user whom this machine has no name for is told by number."""
    if given is not None:
        return given
    import getpass
    import os

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # as in a container that runs under any number
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else ""


def source() -> str:
    """From where decisions come, for the record."""
    import socket

    return f"agentq on {socket.gethostname()}"
