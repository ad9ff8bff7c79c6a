"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from difflib import unified_diff

import click
import pytest

from agentq.cli import cli
from scripts.cli_reference import PAGE, page

CTX = click.Context(cli, **cli.context_settings)


def test_the_page_is_not_stale():
    changes = "\n".join(unified_diff(PAGE.read_text().splitlines(), page().splitlines(), n=0, lineterm=""))
    if changes:
        pytest.fail(f"docs/cli.md is not what the commands say now; run: make docs\n{changes}", pytrace=False)


@pytest.mark.parametrize("name", cli.list_commands(CTX))
def test_every_command_and_every_option_of_it_is_there(name: str):
    command = cli.get_command(CTX, name)
    assert command is not None
    section = PAGE.read_text().partition(f"\n## agentq {name}\n")[2].partition("\n## ")[0]
    everywhere = {option for param in cli.get_params(CTX) for option in param.opts}
    own = {option for param in command.params if isinstance(param, click.Option) for option in param.opts}
    assert [option for option in own - everywhere if option not in section] == []
    assert "Exit codes: 0 ok" in section, f"say which exit codes agentq {name} has: cls=AgentqCommand, exits=(...)"


def test_a_new_command_is_described_without_further_words():
    @click.group()
    def group() -> None:
        """All of it."""

    @group.command()
    @click.argument("run", metavar="RUN|-")
    @click.argument("others", nargs=-1)
    @click.option("--loud", is_flag=True, help="With <noise> | more.")
    @click.option("--secret", hidden=True)
    def shout(run: str, others: tuple[str, ...], loud: bool, secret: str) -> None:
        """Shout. Then rest.

        \b
        Examples:
          $ agentq shout RUN --loud
        """

    @group.command(hidden=True)
    def whisper() -> None:
        """Whisper."""

    text = page(group)
    assert "| [`agentq shout`](#agentq-shout) | Shout. |" in text
    assert "agentq shout [OPTIONS] RUN|- [OTHERS]..." in text
    assert "Arguments: `RUN|-` (required), `OTHERS` (any number)." in text
    assert r"| `--loud` | With \<noise> \| more. |" in text
    assert "Examples:\n\n```console\n$ agentq shout RUN --loud\n```" in text
    assert "whisper" not in text
    assert "--secret" not in text
