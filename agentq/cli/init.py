"""`agentq init`: a small project that works as it is. Its files are the templates in agentq/cli/project."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options
from agentq.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

_ENDING = ".tmpl"
# Under another name, so that no tool takes them for this repository's.
_RENAMED = {"gitignore": ".gitignore"}


@click.command("init", cls=AgentqCommand, exits=(ExitCode.CONFLICT,))
@click.argument("directory", metavar="DIR")
@pass_options
def command(options: Options, directory: str) -> int:
    """Start a project in DIR: an agent, two tools, a web app, tests and a Procfile.

    It works as it is. Files that are there already are never changed: where one is in the way, nothing is written.

    \b
    Examples:
      $ agentq init shop
      $ agentq init .
    """
    from agentq.cli._output import stdout

    if not directory.isprintable() or not directory:
        raise click.UsageError(f"DIR {directory!r} is no name for a folder; use characters that can be printed")
    target = Path(directory)
    files = write_project(target)
    out = stdout()
    if options.json:
        out.document({"directory": str(target), "files": [str(file) for file in files]})
        return ExitCode.OK
    for file in files:
        out.line(f"  {out.style('+', 'green')} {target / file}")
    out.line("\nNext:\n")
    steps = [] if target.resolve() == Path.cwd() else [(f"cd {_quoted(target)}", "")]
    steps.append(("agentq dev", "a Redis, a worker, and what happens"))
    steps.append(('agentq run \'call find_order {"number": "A-17"}\'', "one run, without Redis"))
    width = max(len(step) for step, _ in steps)
    for step, about in steps:
        out.line(f"  {step:<{width}}  {out.style(f'# {about}', 'dim')}" if about else f"  {step}")
    return ExitCode.OK


def write_project(target: Path) -> list[Path]:
    """Write the project's files and return their paths below `target`, in order.

    Raises `Conflict` when one of them is there, and `InvalidInput` when `target` cannot be written to. All are written,
    or none: also when Ctrl-C comes in between.
    """
    project = dict(_templates())
    made: list[Path] = []
    try:
        _refuse_what_is_there(target, list(project))
        name = _title(target)
        for path, text in project.items():
            _write(target / path, text.replace("{name}", name), made)
    except OSError as error:
        _remove(made)
        where = error.filename or target
        raise InvalidInput(f"{where} cannot be written: {error.strerror or error}", field="directory") from error
    except BaseException:
        _remove(made)
        raise
    return list(project)


def _refuse_what_is_there(target: Path, paths: list[Path]) -> None:
    if os.path.lexists(target) and not target.is_dir():
        what = "a link that leads nowhere" if target.is_symlink() and not target.exists() else "a file"
        raise InvalidInput(f"{target} is {what}; name a directory", field="directory")
    taken = [str(target / path) for path in paths if os.path.lexists(target / path)]
    if taken:
        raise Conflict(
            f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already; "
            "nothing was written: name another directory, or move them away"
        )


def _title(target: Path) -> str:
    """What the project is called in its README. The current directory may have any name."""
    from agentq.cli._output import one_line

    name = os.fsencode(target.resolve().name).decode(errors="replace")
    return one_line(name) or "A project"


def _templates() -> Iterator[tuple[Path, str]]:
    """Path and text of each file, sorted by path."""
    from importlib import resources

    def below(folder: Traversable, at: Path) -> Iterator[tuple[Path, str]]:
        for entry in folder.iterdir():
            if entry.is_dir():
                yield from below(entry, at / entry.name)
            elif entry.name.endswith(_ENDING):
                name = entry.name.removesuffix(_ENDING)
                yield at / _RENAMED.get(name, name), entry.read_text("utf-8")

    return iter(sorted(below(resources.files("agentq.cli").joinpath("project"), Path())))


def _write(path: Path, text: str, made: list[Path]) -> None:
    """Write a new file and the folders above it; `made` takes note of what was not there before."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        made.append(folder)
    with path.open("x", encoding="utf-8") as file:
        made.append(path)
        file.write(text)


def _remove(made: list[Path]) -> None:
    """Take back what was made. A folder stays where somebody else has put something into it meanwhile."""
    for path in reversed(made):
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def _quoted(path: Path) -> str:
    import shlex

    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
