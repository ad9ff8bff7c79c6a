"""`agentq web`: the API, the streams and the page, served alone."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli._site import PORT

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)
_LEVELS = ("debug", "info", "warning", "error")


@click.command("web", cls=AgentqCommand, exits=())
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "-p", "--port", metavar="N", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: a free one."
)
@click.option("--read-only", is_flag=True, help="Show runs, and change nothing.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="text, or json where --json is given.")
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="info", show_default=True)
@pass_options
def command(options: Options, *, host: str, port: int, read_only: bool, log_format: str | None, log_level: str) -> int:
    """Serve the page, the API and the streams.

    AGENTQ_WEB_TOKEN is the token that requests bring, and that people give once. Without it, only this machine is let
    in: another --host is refused.

    \b
    Examples:
      $ agentq web
      $ AGENTQ_WEB_TOKEN=$(openssl rand -hex 32) agentq web --host 0.0.0.0
    """
    import asyncio

    from agentq.cli import _logs
    from agentq.cli._output import remark
    from agentq.cli._site import LOOPBACK, address_of, bound, hosts_of
    from agentq.client_async import AsyncClient
    from agentq.errors import InvalidInput
    from agentq.web import web_app

    settings = options.settings()
    token = settings.web_token
    if token is None and host not in LOOPBACK:
        raise InvalidInput(
            f"--host {host} lets others in: set AGENTQ_WEB_TOKEN, as with openssl rand -hex 32, or leave it out",
            field="host",
        )
    _logs.configure(as_json=(log_format or ("json" if options.json else "text")) == "json", level=log_level)

    async def main() -> ExitCode:
        async with AsyncClient(settings=settings) as client:
            app = web_app(client, token=token, read_only=read_only, allowed_hosts=None if token else hosts_of(host))
            with bound(host, port) as listening:
                remark("web", f"agentq web at {address_of(listening)}/", as_json=options.json)
                return await serve(app, listening)

    return asyncio.run(main())


async def serve(app: ASGIApp, listening: socket.socket) -> ExitCode:
    """Serve until signals end it: the first warmly, the second at once."""
    import asyncio

    from agentq.cli._site import server_for

    server = server_for(app)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        server.should_exit, server.force_exit = True, len(received) > 1
        logger.info("%s: stopping", number.name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await server.serve(sockets=[listening])
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return ExitCode.INTERRUPTED if signal.SIGINT in received else ExitCode.OK
