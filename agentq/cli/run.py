"""`agentq run`: an agent in this process, without Redis."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from agentq.cli import _complete
from agentq.cli._errors import ExitCode, exit_code
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.cli.enqueue import FILES, TOOLS, WITHOUT, read_prompt
from agentq.settings import DEFAULT_APP

if TYPE_CHECKING:
    from pathlib import Path

    from agentq.app import AgentQ
    from agentq.events.model import Event


@click.command("run", cls=AgentqCommand, exits=(ExitCode.FAILED,))
@click.argument("prompt", metavar="PROMPT|-")
@click.option("--agent", metavar="AGENT", shell_complete=_complete.agents, help="The agent [the app's first].")
@click.option(
    "--model", metavar="MODEL", help="Another model than the agent's, as provider:model; `mock` needs no key."
)
@FILES
@TOOLS
@WITHOUT
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time.")
@click.option("--full", is_flag=True, help="Shorten no arguments and no results.")
@pass_options
def command(
    options: Options,
    *,
    prompt: str,
    agent: str | None,
    model: str | None,
    files: list[Path | str],
    tools: tuple[str, ...],
    without: tuple[str, ...],
    timestamps: bool,
    full: bool,
) -> int:
    """Run an agent in this process, without Redis; nothing is kept. PROMPT `-` reads standard input.

    Where no app is named and none is there, the agent is a plain `assistant` without tools.

    \b
    Examples:
      $ agentq run 'What is 7 + 9?'
      $ agentq run --agent calculator --model mock 'call add_numbers {"a": 7, "b": 9}'
      $ agentq run --json - < prompt.txt
    """
    import asyncio

    from agentq.cli import _logs
    from agentq.cli._mock import MockRemark
    from agentq.cli._output import stdout
    from agentq.cli._render import Renderer
    from agentq.errors import RunError
    from agentq.events.model import FinalEvent

    # The events say what went wrong in a run already.
    _logs.remarks(as_json=options.json, debug=options.debug, level=logging.ERROR)
    app = _app(options)
    name = agent or next(iter(app.agents))
    text = read_prompt(prompt)
    out = stdout()
    mock = MockRemark()
    renderer = Renderer(out, timestamps=timestamps, full=full, names_workers=False)
    has_ended = False

    def show(event: Event) -> None:
        nonlocal has_ended
        has_ended = isinstance(event, FinalEvent)
        if options.json:
            out.line(event.model_dump_json(exclude_none=True))
        else:
            renderer.show(event)
            mock.take(event)

    try:
        asyncio.run(app.run(name, text, model=model, files=files, tools=tools or None, without=without, on_event=show))
    except RunError as error:
        if not has_ended:
            raise
        return exit_code(error)
    finally:
        renderer.close()
    return ExitCode.OK


def _app(options: Options) -> AgentQ:
    """The app, or a plain one where none was named and the default one is not there."""
    from agentq.errors import AppNotFound

    try:
        return options.load_app()
    except AppNotFound as error:
        missing = error.__cause__
        module = DEFAULT_APP.partition(":")[0]
        is_absent = isinstance(missing, ModuleNotFoundError) and f"{module}.".startswith(f"{missing.name}.")
        if options.names_app or not is_absent:
            raise
    from agentq.app import AgentQ
    from agentq.cli._output import remark
    from agentq.loop import Agent

    path = f"{module.replace('.', '/')}.py"
    remark("no_app", f"no {path} here: using a plain assistant without tools", as_json=options.json, style="dim")
    return AgentQ(agents=[Agent("assistant", instructions="You are a helpful assistant.")], settings=options.settings())
