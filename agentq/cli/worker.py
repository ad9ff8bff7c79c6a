"""`agentq worker`: a process that advances runs. Signals are handled here, not in the worker."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

if TYPE_CHECKING:
    from agentq.worker import Worker

logger = logging.getLogger(__name__)
_LEVELS = ("debug", "info", "warning", "error")


@click.command("worker", cls=AgentqCommand, exits=(ExitCode.UNAVAILABLE,))
@click.option(
    "-q", "--queue", "queues", metavar="QUEUE", multiple=True, help="A queue; the first has precedence [default]."
)
@click.option("-c", "--concurrency", metavar="N", type=click.IntRange(min=1), help="Iterations at the same time [100].")
@click.option("--burst", is_flag=True, help="End when there is nothing to do.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="text, or json where --json is given.")
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="info", show_default=True)
@pass_options
def command(
    options: Options,
    *,
    queues: tuple[str, ...],
    concurrency: int | None,
    burst: bool,
    log_format: str | None,
    log_level: str,
) -> int:
    """Advance the runs of a queue, many at the same time.

    SIGTERM or Ctrl-C stops warmly: what must not be repeated is finished, the rest goes to other workers. A second
    signal stops at once.

    \b
    Examples:
      $ agentq worker
      $ agentq worker --queue urgent --queue default --concurrency 200 --log-format json
    """
    import asyncio

    from agentq.cli import _logs

    _logs.configure(as_json=(log_format or ("json" if options.json else "text")) == "json", level=log_level)
    app = options.load_app()
    # What the app says of itself counts, unless the command line or the environment say otherwise.
    settings = options.settings(base=app.settings, concurrency=concurrency)
    from agentq.worker import Worker
    from agentq.worker.garbage import collect_seldom

    worker = Worker(
        app,
        settings=settings,
        queues=tuple(dict.fromkeys(queues)) or (settings.queue,),
        concurrency=settings.concurrency,
        burst=burst,
    )
    collect_seldom()
    return asyncio.run(serve(worker))


async def serve(worker: Worker) -> ExitCode:
    """Run `worker` until it ends or signals end it: the first warmly, the second at once."""
    import asyncio

    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            logger.info("%s: stopping; again to stop at once", number.name)
            worker.stop()
        else:
            logger.warning("%s: stopping at once", number.name)
            worker.stop_now()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await worker.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return ExitCode.INTERRUPTED if len(received) > 1 else ExitCode.OK
