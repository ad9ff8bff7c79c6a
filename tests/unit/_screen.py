"""A terminal for a command that draws on one: a pseudo terminal, and what can be read on its screen."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Self

from tests.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

# It takes the pseudo terminal as its own, so that Ctrl-C and the like reach it.
_CHILD = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from agentq.cli import main
sys.argv = ["agentq", *sys.argv[1:]]
main()
"""
_PATIENCE_S = 20.0
_WHOLE = re.compile(r"\x1b\[\??[0-9;]*[A-Za-z]|\x1b[^\[]")
_PART = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b.|[\r\n\x07]|[^\x1b\r\n\x07]+", re.DOTALL)


class Screen:
    """What stands on it, as far as this program of ours moves the cursor."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.modes: set[str] = set()
        self._row = self._column = 0

    def take(self, text: str) -> None:
        for part in _PART.finditer(text):
            numbers, letter = part[1], part[2]
            if letter is not None:
                self._control(numbers, letter)
            elif part[0] == "\n":
                self._row, self._column = self._row + 1, 0
            elif part[0] == "\r":
                self._column = 0
            elif not part[0].startswith("\x1b"):
                before = self.rows.get(self._row, "").ljust(self._column)
                end = self._column + len(part[0])
                self.rows[self._row] = before[: self._column] + part[0] + before[end:]
                self._column = end

    def _control(self, numbers: str, letter: str) -> None:
        match letter:
            case "H":
                row, _, column = numbers.partition(";")
                self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
            case "K":
                self.rows.pop(self._row, None)
            case "J":
                self.rows.clear()
            case "h" | "l":
                if numbers == "?1049":  # the other screen is an empty one
                    self.rows.clear()
                (self.modes.add if letter == "h" else self.modes.discard)(numbers)

    @property
    def text(self) -> str:
        return "\n".join(self.rows.get(row, "") for row in range(max(self.rows, default=-1) + 1))


class Typist:
    """A command on a pseudo terminal, somebody who types, and what they see."""

    def __init__(self, *args: str, columns: int = 80, lines: int = 24, **environ: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(theirs)
        environ = {"TERM": "xterm", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environ}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, **environ},
        )
        self._theirs = theirs
        self.screen = Screen()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    @property
    def attributes(self) -> Any:
        """The terminal's, as they are now."""
        return termios.tcgetattr(self._theirs)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def sees(self, *texts: str) -> None:
        """Wait until all of it stands on the screen."""
        self._read_until(lambda: all(text in self.screen.text for text in texts), f"{texts}")

    def sees_no(self, text: str) -> None:
        """Wait until it does not stand there any more."""
        self._read_until(lambda: text not in self.screen.text, f"no {text!r}")

    def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        self._read_until(lambda: self.process.poll() is not None, "the end")
        return self.process.wait()

    def _read_until(self, is_there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not is_there():
            if time.monotonic() > deadline:
                raise AssertionError(f"did not see {what}; the screen:\n{self.screen.text}")
            if select.select([self._ours], [], [], 0.05)[0]:
                self._take(os.read(self._ours, 65_536))
            else:
                self._take(b"")

    def _take(self, read: bytes) -> None:
        """Show what was read; a sequence that may be cut in two waits for its rest, or for nothing more to come."""
        self._rest += self._decoder.decode(read)
        end = self._rest.rfind("\x1b") if read else -1
        is_cut = end >= 0 and _WHOLE.match(self._rest, end) is None
        shown = self._rest[:end] if is_cut else self._rest
        self._rest = self._rest[len(shown) :]
        self.screen.take(shown)
