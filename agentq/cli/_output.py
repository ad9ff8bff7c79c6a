"""What is known of a terminal or a pipe: colours, width, safe text. How events look is in `_render.py`."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO

from agentq._words import age as age
from agentq._words import count as count
from agentq._words import duration as duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SGR = {
    "bold": "1",
    "dim": "2",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
# Seven bits for terminals whose encoding has no arrows.
_ASCII = str.maketrans(
    {
        "→": "->",
        "←": "<-",
        "✓": "ok",
        "✗": "x",
        "⊘": "x",
        "·": "-",
        "…": "...",
        "⋯": "..",
        "↺": "<>",
        "↻": "<>",
        "»": ">>",
        "│": "|",
        "─": "-",
        "▸": ">",
    }
)
# A model or a tool may say anything: an escape sequence of theirs must not move the cursor or rename the window.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t\r"}
_CONTROL[ord("\r")] = ""
_BLANKS = re.compile(r"\s+")
# Where nothing limits a line, this keeps arguments and results readable; `--full` lifts it.
PIPE_WIDTH = 200


class OutputClosed(Exception):
    """Whoever read the output has gone (`| head`)."""


class Output:
    """A text stream and what it can show."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._stream = stream
        self.is_tty = stream.isatty() and environ.get("TERM") != "dumb"
        self.has_colour = _wants_colour(environ, is_tty=self.is_tty)
        self._is_ascii = not _has_arrows(stream)

    @property
    def width(self) -> int | None:
        """Columns of the terminal, as it is now; None for a pipe."""
        return shutil.get_terminal_size().columns if self.is_tty else None

    def style(self, text: str, *styles: str) -> str:
        if not self.has_colour or not styles or not text:
            return text
        return f"\x1b[{';'.join(_SGR[style] for style in styles)}m{text}\x1b[0m"

    def write(self, text: str) -> None:
        """Write `text`; raises `OutputClosed`. Characters that the stream cannot encode are replaced."""
        if self._is_ascii:
            text = text.translate(_ASCII)
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except BrokenPipeError:
            raise OutputClosed from None

    def line(self, text: str = "") -> None:
        self.write(text + "\n")
        self.flush()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise OutputClosed from None

    def document(self, value: Any) -> None:
        """Write `value` as one JSON document: indented for a person, on one line for a program."""
        import json

        self.line(json.dumps(value, ensure_ascii=False, indent=2 if self.is_tty else None))


def stdout() -> Output:
    return Output(sys.stdout)


def stderr() -> Output:
    return Output(sys.stderr)


def remark(kind: str, message: str, *, as_json: bool, style: str = "yellow") -> None:
    """Say something beside the output, on stderr: in JSON where the output is."""
    out = stderr()
    if as_json:
        import json

        out.line(json.dumps({"note": {"type": kind, "message": message}}, ensure_ascii=False))
    else:
        out.line(out.style(message, style))


def printable(text: str) -> str:
    """`text` with its control characters spelled out, apart from newlines and tabs."""
    return text.translate(_CONTROL)


def one_line(text: str) -> str:
    """`text` on one line, each run of blanks as one space."""
    return _BLANKS.sub(" ", printable(text)).strip()


def columns(text: str) -> int:
    """How many columns `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(character) for character in text)


def clip(text: str, width: int | None) -> str:
    """`text` in at most `width` columns, with `…` where it was cut; None does not cut."""
    if width is None or columns(text) <= width:
        return text
    room = max(width - 1, 0)
    taken = 0
    for index, character in enumerate(text):
        taken += _columns_of(character)
        if taken > room:
            return text[:index].rstrip() + "…"
    return text


def time_of_day(at_ms: int) -> str:
    """Local time with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at_ms / 1000))}.{at_ms % 1000:03d}"


def table(rows: Sequence[Sequence[str]]) -> Iterable[list[str]]:
    """The cells of `rows`, padded to their column; the last column stays as it is."""
    widths = [max(columns(row[index]) for row in rows) for index in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        yield [*(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=False)), row[-1]]


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _wants_colour(environ: Mapping[str, str], *, is_tty: bool) -> bool:
    """NO_COLOR (no-color.org) wins over FORCE_COLOR (force-color.org), which wins over what the stream is."""
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR")
    return forced != "0" if forced else is_tty


def _has_arrows(stream: TextIO) -> bool:
    try:
        "→✓│".encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
