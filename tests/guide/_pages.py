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
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\S+\.py)\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. `name` is the file that its first line names, else its language and number on the page."""

    page: Path
    language: str
    text: str
    name: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.name}"

    def executed(self) -> ModuleType:
        """Run the block as a module of its own, not as the main program."""
        module = ModuleType(self.name.removesuffix(".py").replace("/", "."))
        exec(compile(self.text, str(self), "exec"), module.__dict__)  # noqa: S102 - our own page
        return module


def blocks(page: Path, language: str) -> list[Block]:
    found = []
    for number, (kind, text) in enumerate(_FENCE.findall(page.read_text())):
        named = _FILE_NAME.match(text)
        if kind == language:
            found.append(Block(page, kind, text, named[1] if named else f"{kind} {number}"))
    return found


def block(page: Path, name: str) -> Block:
    """The python block of that file name."""
    return next(found for found in blocks(page, "python") if found.name == name)


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


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines after `$` in console blocks, without comments."""
    for shown in blocks(page, "console"):
        for line in re.findall(r"^\$ (.+)$", shown.text, re.MULTILINE):
            yield shlex.split(line, comments=True)
