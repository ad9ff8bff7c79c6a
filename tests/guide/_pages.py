"""Reads the pages of the documentation: their fenced blocks, links and commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = ROOT / "README.md"
# The pages that are played block by block: see `_walk.py`.
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
_FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ((?:[\w-]+/)*(?:[\w@-]+\.[a-z]+|Dockerfile|Procfile))\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. `name` is the file that its first line names, else its language and number on the page.

    `words` are those after the language, which say how the page is played.
    """

    page: Path
    language: str
    text: str
    name: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page.name}:{self.name}"

    @property
    def is_file(self) -> bool:
        return _FILE_NAME.match(self.text) is not None

    def executed(self) -> ModuleType:
        """Run the block as a module of its own, not as the main program."""
        module = ModuleType(self.name.removesuffix(".py").replace("/", "."))
        exec(compile(self.text, str(self), "exec"), module.__dict__)  # noqa: S102 - our own page
        return module


@dataclass(frozen=True)
class Shown:
    """A command after `$`, and the lines that it prints according to the page."""

    command: str
    output: str


def all_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for number, (language, words, text) in enumerate(_FENCE.findall(page.read_text())):
        named = _FILE_NAME.match(text)
        found.append(Block(page, language, text, named[1] if named else f"{language} {number}", tuple(words.split())))
    return found


def blocks(page: Path, language: str) -> list[Block]:
    return [found for found in all_blocks(page) if found.language == language]


def block(page: Path, name: str) -> Block:
    """The block of that file name."""
    return next(found for found in all_blocks(page) if found.name == name)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Targets of links that stay in this repository."""
    return [target for target in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.replace(" ", "-") for heading in plain}


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    _, found, section = page.read_text().partition(f"\n## {heading}\n")
    assert found, f"{page.name} has no section {heading!r}"
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines after `$` in console blocks, without comments."""
    for block in blocks(page, "console"):
        for shown in dialogue(block.text):
            yield shlex.split(shown.command, comments=True)


def dialogue(text: str) -> Iterator[Shown]:
    """What is typed in a console block, each with what is printed then.

    A command goes on in the next line after a backslash, and where a quotation is open.
    """
    lines = text.splitlines()
    while lines:
        first = lines.pop(0)
        if not first.startswith("$ "):
            raise ValueError(f"a console block begins with a command after '$ ', not with {first!r}")
        command = first[2:]
        while lines and _is_open(command):
            command += f"\n{lines.pop(0)}"
        output = []
        while lines and not lines[0].startswith("$ "):
            output.append(lines.pop(0))
        yield Shown(command, "\n".join(output).rstrip())


def _is_open(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return command.endswith("\\")
