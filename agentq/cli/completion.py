"""`agentq completion`: the script that makes a shell complete commands, options, agents, sessions and run ids."""

from __future__ import annotations

import os
from pathlib import PurePath

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

_INSTALL = {
    "bash": 'eval "$(agentq completion bash)"        in ~/.bashrc',
    "zsh": 'eval "$(agentq completion zsh)"        in ~/.zshrc, after compinit',
    "fish": "agentq completion fish | source        in ~/.config/fish/config.fish",
}


@click.command("completion", cls=AgentqCommand, exits=())
@click.argument("shell", type=click.Choice(list(_INSTALL)), required=False)
@pass_options
def command(options: Options, shell: str | None) -> int:
    """Print what makes a shell complete commands, options, agents, sessions and run ids.

    Without SHELL it is for the shell that the variable SHELL names. Agents, sessions and runs are those of REDIS_URL.

    \b
    Examples:
      $ agentq completion bash
      $ agentq completion fish
    """
    from click.shell_completion import get_completion_class

    from agentq.cli import cli
    from agentq.cli._output import stdout

    if shell is None:
        shell = PurePath(os.environ.get("SHELL", "")).name
        if shell not in _INSTALL:
            given = f"{shell!r}, for which there is no completion" if shell else "not known"
            raise click.UsageError(f"your shell is {given}; name one: {', '.join(_INSTALL)}")
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click does not know {shell}")
    script = kind(cli, {}, "agentq", "_AGENTQ_COMPLETE").source()
    stdout().line(f"# {_INSTALL[shell]}\n{script.rstrip()}")
    return ExitCode.OK
