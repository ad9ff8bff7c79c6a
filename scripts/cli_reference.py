"""Writes docs/cli.md from the commands themselves. `make docs` runs it, and a test says when the page is stale."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentq.cli import cli
from agentq.cli._errors import COMMON_EXITS, MEANINGS, ExitCode
from agentq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
_GLOBAL_TITLE = "Global options"
_HEAD = """\
# The command line

Written by `make docs` from the commands themselves; do not edit it here. `agentq COMMAND --help` says the same in a
terminal. The [guide](guide/README.md) shows the commands at work.
"""
_GLOBAL = """\
Every command takes them, and they may stand before or after its name.
"""
_EXITS = """\
Every error is one line on standard error with what to do; `--debug` shows the traceback as well. When a program that
reads the output has gone (`agentq tail RUN | head`), the code is 141. Something that no command foresees is 1, too.
"""
_ENVIRONMENT = """\
An option on the command line comes before a variable, a variable before the default. What each of them does stands in
[settings](guide/deploy.md#settings). `NO_COLOR` and `FORCE_COLOR` are honoured.
"""


def page(group: click.Group = cli) -> str:
    """The whole page."""
    sections = [
        _HEAD,
        "## Commands\n",
        _table(("command", "what it does"), _index(group)),
        f"## {_GLOBAL_TITLE}\n",
        _GLOBAL,
        _table(("option", "what it does"), _options(group, group)),
        "## Exit codes\n",
        _table(("code", "means"), ((f"{code:d}", words) for code, words in MEANINGS.items())),
        _EXITS,
        "## Environment variables\n",
        _ENVIRONMENT,
        _table(("variable", "default"), _variables()),
        *(section for path, command in _commands(group) for section in _section(group, path, command)),
    ]
    return "\n".join(sections)


def _context(command: click.Command, path: str = "agentq") -> click.Context:
    """A context as the command line makes it: a command keeps the `-h, --help` that it was first asked for."""
    return click.Context(command, info_name=path, **cli.context_settings)


def _commands(group: click.Group, path: str = "agentq") -> Iterator[tuple[str, click.Command]]:
    """Every command that is shown, with the words that call it; those of groups after their group."""
    ctx = _context(group, path)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def _index(group: click.Group) -> Iterator[tuple[str, str]]:
    for path, command in _commands(group):
        yield f"[`{path}`](#{path.replace(' ', '-')})", _escaped(_first_sentence(command))


def _section(group: click.Group, path: str, command: click.Command) -> Iterator[str]:
    """A command: how it is called, what it does, its arguments, options and exit codes."""
    ctx = _context(command, path)
    yield f"## {path}\n"
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(ctx))}\n```\n"
    yield from _paragraphs(command)
    if arguments := [param for param in command.get_params(ctx) if isinstance(param, click.Argument)]:
        each = (f"`{_metavar(argument, ctx)}` ({_how_often(argument)})" for argument in arguments)
        yield f"{'Argument' if len(arguments) == 1 else 'Arguments'}: {', '.join(each)}.\n"
    if options := list(_options(command, group)):
        yield _table(("option", "what it does"), options)
    exits: Iterable[ExitCode] | None = getattr(command, "exits", None)
    if exits is not None:
        # Not every command speaks of a run.
        words = {**MEANINGS, ExitCode.FAILED: "failed"}
        codes = sorted({*COMMON_EXITS, *exits})
        yield f"Exit codes: {', '.join(f'{code:d} {words[code]}' for code in codes)}.\n"


def _paragraphs(command: click.Command) -> Iterator[str]:
    """The command's text. A paragraph that begins with the mark \\b is kept as it is; click does the same."""
    for paragraph in inspect.cleandoc(command.help or "").partition("\f")[0].split("\n\n"):
        head, _, body = paragraph.partition("\n")
        if head.strip() != "\b":
            yield f"{_escaped(paragraph)}\n"
            continue
        if (title := body.partition("\n")[0]).endswith(":"):
            yield f"{title}\n"
            body = inspect.cleandoc(f"\n{body.partition(chr(10))[2]}")
        yield f"```{'console' if body.startswith('$ ') else 'text'}\n{body}\n```\n"


def _options(command: click.Command, group: click.Group) -> Iterator[tuple[str, str]]:
    """The options of a command, without the global ones, which are the group's own."""
    ctx = _context(command)
    everywhere = {name for param in group.get_params(_context(group)) for name in param.opts}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is None or (command is not group and everywhere.issuperset(param.opts)):
            continue
        names, text = record
        yield _code(names), _escaped(text)


def _variables() -> Iterator[tuple[str, str]]:
    for field in fields(Settings):
        variable = "REDIS_URL" if field.name == "redis_url" else f"AGENTQ_{field.name.upper()}"
        yield f"`{variable}`", "none" if field.default is None else f"`{field.default}`"


def _metavar(argument: click.Argument, ctx: click.Context) -> str:
    return argument.make_metavar(ctx).removesuffix("...").strip("[]")


def _how_often(argument: click.Argument) -> str:
    if argument.nargs == -1:
        return "one or more" if argument.required else "any number"
    return "required" if argument.required else "optional"


def _first_sentence(command: click.Command) -> str:
    words = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return f"{words.split('. ')[0].rstrip('.')}."


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text for a cell or a line, in which `<` and `|` mean themselves."""
    return text.replace("|", "\\|").replace("<", "\\<")


def _table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [heads, ("---", "---"), *rows]
    return "".join(f"| {left} | {right} |\n" for left, right in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
