"""Tables and paragraphs that fit a terminal: columns are spared before text is cut."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from agentq.cli._output import PIPE_WIDTH, Output, clip, columns, table

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_TEXT = 10


def fitting(
    rows: Sequence[Sequence[str]], width: int, *, spared: Sequence[str], min_text: int = _MIN_TEXT
) -> list[list[str]]:
    """The padded cells of `rows`, the first of them heads, without the columns that leave too little room for the last.

    `spared` names the columns that a narrow terminal does without, first to last.
    """
    lines = list(table(rows))
    for name in spared:
        if width - taken(lines[0]) >= min_text:
            break
        at = next(index for index, cell in enumerate(lines[0]) if cell.strip() == name)
        lines = [[*line[:at], *line[at + 1 :]] for line in lines]
    return lines


def taken(cells: Sequence[str]) -> int:
    """Columns in front of the last cell."""
    return sum(columns(cell) + 2 for cell in cells[:-1])


def print_table(
    out: Output, heads: Sequence[str], rows: Sequence[Sequence[str]], *, spared: Sequence[str], styles: Sequence[str]
) -> None:
    """Print `rows` under `heads`; `styles` gives each row a colour, or an empty string for none."""
    width = out.width or PIPE_WIDTH
    room = max(columns(row[-1]) for row in (heads, *rows))
    first, *lines = fitting([heads, *rows], width, spared=spared, min_text=min(room, _MIN_TEXT))
    room = width - taken(first)
    out.line(out.style(clip("  ".join([*first[:-1], clip(first[-1], room)]).rstrip(), width), "dim"))
    for cells, style in zip(lines, styles, strict=True):
        line = clip("  ".join([*cells[:-1], clip(cells[-1], room)]).rstrip(), width)
        out.line(out.style(line, style) if style else line)


def paragraph(out: Output, text: str, *, first: str = "", rest: str = "") -> list[str]:
    """`text` in the lines of the terminal, the first after `first`, others after `rest`; a pipe gets one line."""
    if out.width is None:
        return [first + text]
    return textwrap.wrap(
        text,
        max(out.width, 30),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
