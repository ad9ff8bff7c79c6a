"""`agentq init`: a small project that works as it is. Its files are the templates in agentq/cli/project."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentq.cli._errors import ExitCode
from agentq.cli._group import AgentqCommand, Options, pass_options

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
    or none.
    """
    from agentq.errors import Conflict, InvalidInput

    project = dict(_templates())
    made: list[Path] = []
    try:
        if target.exists() and not target.is_dir():
            raise InvalidInput(f"{target} is a file; name a directory", field="directory")
        taken = [str(target / path) for path in project if os.path.lexists(target / path)]
        if taken:
            raise Conflict(
                f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already; "
                "nothing was written: name another directory, or move them away"
            )
        project = {path: text.replace("{name}", target.resolve().name) for path, text in project.items()}
        for path, text in project.items():
            _write(target / path, text, made)
    except OSError as error:
        _remove(made)
        where = error.filename or target
        raise InvalidInput(f"{where} cannot be written: {error.strerror or error}", field="directory") from error
    return list(project)


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
    for path in reversed(made):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
